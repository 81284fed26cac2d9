package cluster

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"slices"
)

// resolveSeeds gives every address of every seed: a name of several hosts is
// all of them. What can't be resolved now is tried again next time.
func resolveSeeds(ctx context.Context, seeds []string) []string {
	var out []string
	for _, seed := range seeds {
		host, port, err := net.SplitHostPort(seed)
		if err != nil {
			continue
		}
		ips, err := net.DefaultResolver.LookupHost(ctx, host)
		if err != nil {
			continue
		}
		for _, ip := range ips {
			out = append(out, net.JoinHostPort(ip, port))
		}
	}
	return out
}

// loadKnown reads the gossip addresses that this node knew last. A missing or
// damaged file only costs the shortcut.
func loadKnown(path string) (known []string) {
	if text, err := os.ReadFile(path); err == nil {
		_ = json.Unmarshal(text, &known)
	}
	return known[:min(len(known), maxKnown)]
}

// saveKnown replaces the file, if it changed.
func saveKnown(path string, known []string) error {
	slices.Sort(known)
	if path == "" || slices.Equal(known, loadKnown(path)) {
		return nil
	}
	text, err := json.Marshal(known)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".tmp", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}
