package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// DevConfig is a throw-away cluster in one process.
type DevConfig struct {
	Nodes   int       // 0 means 1
	Ports   int       // added to the default ports of the first node; each further one has 10 more
	Out     io.Writer // gets the lines to try
	Version string
	Log     *slog.Logger // nil discards
}

const maxDevNodes = 9 // their ports lie 10 apart, below 7440

// RunDev runs the cluster until ctx ends, and removes its data.
func RunDev(ctx context.Context, cfg DevConfig) error {
	started := time.Now()
	cfg.Nodes = max(cfg.Nodes, 1)
	if cfg.Nodes > maxDevNodes {
		return &ConfigError{"n", fmt.Sprintf("%d nodes are too many for one process, at most %d", cfg.Nodes, maxDevNodes)}
	}
	dir, err := os.MkdirTemp("", "pushd-dev-")
	if err != nil {
		return fmt.Errorf("make a data directory: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	nodes, err := startDev(ctx, cfg, dir)
	defer stopDev(nodes)
	if ctx.Err() != nil {
		return nil // asked to end before all were ready
	}
	if err != nil {
		return err
	}
	printDev(cfg.Out, nodes, time.Since(started))
	return waitDev(ctx, nodes)
}

func startDev(ctx context.Context, cfg DevConfig, dir string) (nodes []*Node, err error) {
	for i := range cfg.Nodes {
		name := fmt.Sprintf("n%d", i+1)
		c := Config{
			NodeName: name, DataDir: filepath.Join(dir, name), PortOffset: cfg.Ports + 10*i, Version: cfg.Version, Log: cfg.Log,
			WebhookAllowPrivate: true, WebhookAllowHTTP: true, WebhookNoVerify: true,
		}
		if i > 0 {
			c.Join = []string{nodes[0].GossipAddr()}
		}
		n, err := Start(ctx, c)
		if err != nil {
			return nodes, fmt.Errorf("node %s: %w", name, err)
		}
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		if err := n.waitReady(ctx); err != nil {
			return nodes, err
		}
	}
	return nodes, nil
}

// stopDev ends the nodes at once: there is nobody to hand over to.
func stopDev(nodes []*Node) {
	for _, n := range nodes {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		n.Stop(now)
	}
}

func waitDev(ctx context.Context, nodes []*Node) error {
	failed := make(chan error, len(nodes))
	for _, n := range nodes {
		go func() {
			select {
			case err := <-n.fatal:
				failed <- err
			case <-ctx.Done():
				failed <- nil
			}
		}()
	}
	if err := <-failed; err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func printDev(out io.Writer, nodes []*Node, took time.Duration) {
	first, last := nodes[0].ClientURL(), nodes[len(nodes)-1].ClientURL()
	plural := ""
	if len(nodes) > 1 {
		plural = "s"
	}
	_, _ = fmt.Fprintf(out, `pushd dev: %d node%s, data in a temporary folder (removed at the end)

  console    %s/console/
  subscribe  curl -N -H 'Accept: text/event-stream' %s/v1/topics/hello/events
  publish    curl -d 'hi' %s/v1/topics/hello/events
  poll       curl '%s/v1/topics/hello/events?wait=25s'
  or         pushd subscribe --server %s hello      pushd publish --server %s hello 'hi'
`, len(nodes), plural, first, last, first, last, last, first)
	for _, n := range nodes[1:] {
		_, _ = fmt.Fprintf(out, "  also       %s\n", n.ClientURL())
	}
	_, _ = fmt.Fprintf(out, "\nready in %.1f s (Ctrl-C stops; open to this machine only)\n", took.Seconds())
}
