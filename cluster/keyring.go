package cluster

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"

	"github.com/hashicorp/memberlist"
)

// ErrNotSecured says that a node which was started without keys can't get any.
var ErrNotSecured = errors.New("this node was started without cluster keys; restart it with --cluster-key-file")

// Fingerprints name the keys, in their order, for people and logs. Nothing of
// the keys can be learned from them.
func (k Keys) Fingerprints() (all []string) {
	for _, key := range k {
		all = append(all, hex.EncodeToString(derive(key, "fingerprint")[:fingerprintBytes]))
	}
	return all
}

// SetKeys changes the keys while the node runs: gossip is encrypted with the
// first from now on, and what is encrypted with any of them is read.
func (c *Cluster) SetKeys(keys Keys) error {
	if c.keyring == nil || len(keys) == 0 {
		return ErrNotSecured
	}
	return keys.install(c.keyring)
}

// gossip makes memberlist's keyring.
func (k Keys) gossip() (*memberlist.Keyring, error) {
	all := k.gossipKeys()
	return memberlist.NewKeyring(all, all[0])
}

func (k Keys) gossipKeys() (all [][]byte) {
	for _, key := range k {
		all = append(all, derive(key, "gossip"))
	}
	return all
}

// install makes these the keys of a ring that is in use.
func (k Keys) install(ring *memberlist.Keyring) error {
	wanted := k.gossipKeys()
	for _, key := range wanted {
		if err := ring.AddKey(key); err != nil {
			return err
		}
	}
	if err := ring.UseKey(wanted[0]); err != nil {
		return err
	}
	have := ring.GetKeys()
	first := slices.IndexFunc(have, func(key []byte) bool { return !contains(wanted, key) })
	if first < 0 {
		return nil
	}
	// From the end: RemoveKey moves what stands behind the key in place, under
	// the eyes of who decrypts just now.
	for i := len(have) - 1; i >= first; i-- {
		if err := ring.RemoveKey(have[i]); err != nil {
			return err
		}
	}
	for _, key := range wanted {
		if err := ring.AddKey(key); err != nil { // one that stood behind is missing for an instant: gossip repeats itself
			return err
		}
	}
	return nil
}

func contains(keys [][]byte, key []byte) bool {
	return slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) })
}
