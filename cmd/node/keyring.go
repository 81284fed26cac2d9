package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/pushd/pushd/cluster"
)

// keyBlock is a line with a key and the lines before it that have none.
type keyBlock struct {
	text        string
	fingerprint string
}

// ClusterKeys names the keys of a file in their order: nodes use the first, and
// accept all.
func ClusterKeys(path string) ([]string, error) {
	blocks, _, err := readKeyring(path)
	return fingerprintsOf(blocks), err
}

// AcceptClusterKeys adds keys to the end of a file, a new one if none are given:
// nodes accept them, and don't use them yet.
func AcceptClusterKeys(path string, more []byte) (added []string, err error) {
	if more == nil {
		more = []byte(cluster.NewKey())
	}
	extra, _, err := splitKeys(more)
	if err != nil {
		return nil, &ConfigError{"from", err.Error()}
	}
	err = editKeyring(path, func(blocks []keyBlock) ([]keyBlock, error) {
		for _, block := range extra {
			if !slices.Contains(fingerprintsOf(blocks), block.fingerprint) {
				blocks, added = append(blocks, block), append(added, block.fingerprint)
			}
		}
		return blocks, nil
	})
	return added, err
}

// UseClusterKey makes a key of a file the first.
func UseClusterKey(path, fingerprint string) error {
	return editKeyring(path, func(blocks []keyBlock) ([]keyBlock, error) {
		at, err := findKey(path, blocks, fingerprint)
		if err != nil {
			return nil, err
		}
		return slices.Concat(blocks[at:at+1], blocks[:at], blocks[at+1:]), nil
	})
}

// RemoveClusterKey takes a key out of a file, unless it is the one in use.
func RemoveClusterKey(path, fingerprint string) error {
	return editKeyring(path, func(blocks []keyBlock) ([]keyBlock, error) {
		at, err := findKey(path, blocks, fingerprint)
		if err == nil && at == 0 {
			err = &ConfigError{"file", fmt.Sprintf("%s: key %s is the one in use; first let all nodes use another one (pushd keyring use)", path, fingerprint)}
		}
		if err != nil {
			return nil, err
		}
		return slices.Delete(blocks, at, at+1), nil
	})
}

func findKey(path string, blocks []keyBlock, fingerprint string) (int, error) {
	known := fingerprintsOf(blocks)
	at := slices.Index(known, fingerprint)
	if at < 0 {
		return 0, &ConfigError{"file", fmt.Sprintf("%s has no key %s, only %s", path, fingerprint, strings.Join(known, ", "))}
	}
	return at, nil
}

func fingerprintsOf(blocks []keyBlock) (all []string) {
	for _, b := range blocks {
		all = append(all, b.fingerprint)
	}
	return all
}

func editKeyring(path string, edit func([]keyBlock) ([]keyBlock, error)) error {
	blocks, rest, err := readKeyring(path)
	if err != nil {
		return err
	}
	if blocks, err = edit(blocks); err != nil {
		return err
	}
	var text strings.Builder
	for _, b := range blocks {
		text.WriteString(b.text)
	}
	text.WriteString(rest)
	if _, err := cluster.ParseKeys([]byte(text.String())); err != nil { // too many
		return &ConfigError{"file", path + ": " + err.Error()}
	}
	return replaceFile(path, []byte(text.String()))
}

func readKeyring(path string) (blocks []keyBlock, rest string, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", &ConfigError{"file", path + " is not there; make it with pushd keygen"}
	}
	if err != nil {
		return nil, "", &ConfigError{"file", err.Error()}
	}
	if blocks, rest, err = splitKeys(text); err != nil {
		return nil, "", &ConfigError{"file", path + ": " + err.Error()}
	}
	return blocks, rest, nil
}

// splitKeys leaves each comment with the key that follows it; rest follows none.
func splitKeys(text []byte) (blocks []keyBlock, rest string, err error) {
	if _, err := cluster.ParseKeys(text); err != nil {
		return nil, "", err
	}
	for line := range strings.Lines(string(text)) {
		rest += strings.TrimRight(line, "\r\n") + "\n"
		key, err := cluster.ParseKeys([]byte(line))
		if err != nil {
			continue // a comment, or empty
		}
		blocks = append(blocks, keyBlock{rest, key.Fingerprints()[0]})
		rest = ""
	}
	return blocks, rest, nil
}

// replaceFile writes a file anew in one step, for its owner: who edits it may be
// root, and who reads it the service's user.
func replaceFile(path string, text []byte) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	next := path + ".new"
	if err := writeDurably(next, text); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && int(owner.Uid) != os.Geteuid() {
		err = os.Chown(next, int(owner.Uid), int(owner.Gid))
	}
	if err = errors.Join(err, os.Chmod(next, info.Mode().Perm())); err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		_ = os.Remove(next)
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
