package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/uuid"
)

const (
	identityFile   = "node.json"
	identityFormat = 1
	webhookKeyFile = "webhook.key" // seals webhook secrets; the same at every node
)

// identity is what makes a data directory one node of one cluster for life. A
// new directory is a new node, whatever its name: an empty disk must never vote
// under the id of a full one.
type identity struct {
	Format    int    `json:"format"`
	NodeID    string `json:"node_id"`        // UUID; the Raft server id
	ClusterID string `json:"cluster_id"`     // "" until the node has joined one
	Founder   bool   `json:"founder"`        // this node made the cluster
	Founded   bool   `json:"founded"`        // and its groups exist: never bootstrap them again
	Left      bool   `json:"left,omitempty"` // the cluster has removed this node for good
	// Recovering is what the cluster is to become while a recovery is under way: until it is done, the node must not run.
	Recovering string `json:"recovering,omitempty"`
}

// home is an open data directory, locked against other processes.
type home struct {
	dir  string
	lock *os.File
	identity
}

var errDirInUse = errors.New("data directory is in use by another process")

// homeUse is what a data directory is opened for.
type homeUse byte

const (
	homeFounds homeUse = iota // to run a node; a new directory founds a cluster
	homeJoins                 // to run a node; a new directory joins a cluster
	homeAtRest                // to look at it, or to recover what is in it
)

// openHome opens or makes the data directory.
func openHome(dir string, use homeUse) (*home, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	h := &home{dir: dir, lock: lock}
	if err := h.load(use); err != nil {
		_ = lock.Close()
		return nil, err
	}
	return h, nil
}

func (h *home) load(use homeUse) error {
	text, err := os.ReadFile(filepath.Join(h.dir, identityFile))
	if errors.Is(err, fs.ErrNotExist) {
		return h.init(use)
	}
	if err != nil {
		return fmt.Errorf("read the node's identity: %w", err)
	}
	if err := json.Unmarshal(text, &h.identity); err != nil || h.NodeID == "" {
		return fmt.Errorf("%s is damaged (%v); if the other replicas are healthy, move the data directory away and join again as a new node", filepath.Join(h.dir, identityFile), err)
	}
	if h.Format != identityFormat {
		return fmt.Errorf("%s has format %d, this pushd knows format %d; use the pushd that wrote it", h.dir, h.Format, identityFormat)
	}
	if h.Recovering != "" && use != homeAtRest {
		return fmt.Errorf("the recovery of the cluster was begun with %s and cut short; finish it: pushd cluster raft recover --data-dir %s --yes", h.dir, h.dir)
	}
	if h.Left {
		return fmt.Errorf("the node of %s was removed from cluster %s for good; move that directory away, or choose another --data-dir, and join as a new node", h.dir, h.ClusterID)
	}
	return nil
}

func (h *home) init(use homeUse) error {
	for _, leftover := range []string{"wal", "raft", "part"} {
		if _, err := os.Stat(filepath.Join(h.dir, leftover)); err == nil {
			return fmt.Errorf("%s holds data (%s) but no %s, so whose data it is can't be told; restore that file or choose another --data-dir", h.dir, leftover, identityFile)
		}
	}
	h.identity = identity{Format: identityFormat, NodeID: uuid.NewString(), Founder: use == homeFounds}
	if h.Founder {
		h.ClusterID = uuid.NewString()
	}
	return h.save()
}

// save replaces the file in one step, durably.
func (h *home) save() error {
	text, err := json.MarshalIndent(h.identity, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the node's identity: %w", err)
	}
	if err := writeDurably(filepath.Join(h.dir, identityFile), append(text, '\n')); err != nil {
		return fmt.Errorf("write the node's identity: %w", err)
	}
	return nil
}

func (h *home) close() { _ = h.lock.Close() }

func (h *home) path(name string) string { return filepath.Join(h.dir, name) }

// lockDir holds an advisory lock for the life of the process; the kernel drops
// it when the process dies, however it dies.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(f.Name())
		_ = f.Close()
		return nil, fmt.Errorf("%w: %s (held by process %s); stop that one, or choose another --data-dir", errDirInUse, dir, orElse(strings.TrimSpace(string(holder)), "unknown"))
	}
	if err := f.Truncate(0); err == nil {
		_, _ = fmt.Fprintln(f, os.Getpid()) // a hint for people; nothing reads it back but the message above
	}
	return f, nil
}

func writeDurably(path string, text []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
