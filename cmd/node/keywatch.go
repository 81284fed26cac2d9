package node

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

// watchKeys takes over what is changed in the file of cluster keys: within
// seconds, since some only put files there, or at once on SIGHUP.
func (n *Node) watchKeys(ctx context.Context) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGHUP)
	defer signal.Stop(asked)
	tick := time.NewTicker(keyFilePeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-asked:
		case <-tick.C:
		}
		n.reloadKeys()
	}
}

// reloadKeys goes on with the old keys if the file is no use, and says so once.
func (n *Node) reloadKeys() {
	err := n.takeKeys()
	if err == nil {
		n.keyTrouble = ""
		return
	}
	if text := err.Error(); text != n.keyTrouble {
		n.keyTrouble = text
		n.log.Error("cluster keys not changed; the old ones stay in use until the file is right", "err", err)
	}
}

func (n *Node) takeKeys() error {
	keys, err := n.cfg.keys()
	if err != nil {
		return err
	}
	before := n.fingerprints()
	if slices.Equal(keys.Fingerprints(), before) {
		return nil
	}
	secure, err := keys.TLS()
	if err != nil {
		return err
	}
	if err := n.gossip.SetKeys(keys); err != nil {
		return err
	}
	n.link.SetTLS(secure)
	n.keys.Store(&keys)
	n.log.Info("cluster keys changed", "used", keys.Fingerprints()[0], "accepted", keys.Fingerprints(), "before", before)
	return nil
}

// fingerprints name the keys in use, none if there are none.
func (n *Node) fingerprints() []string {
	if keys := n.keys.Load(); keys != nil {
		return keys.Fingerprints()
	}
	return nil
}
