package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/pushd/pushd/cluster"
)

// NewClusterKey makes a key for the nodes of a cluster to share.
func NewClusterKey() string { return cluster.NewKey() }

// AddClusterKey makes a new key the first of a file, which is made if need be:
// nodes use the first, and accept the others until they are taken out.
func AddClusterKey(path string) error {
	before, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &ConfigError{"file", err.Error()}
	}
	text := append([]byte(cluster.NewKey()+"\n"), before...)
	if _, err := cluster.ParseKeys(text); err != nil {
		return &ConfigError{"file", path + ": " + err.Error()}
	}
	if err := writeDurably(path, text); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
