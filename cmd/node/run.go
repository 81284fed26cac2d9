package node

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Run runs a node until ctx ends or it can't go on, and drains it. While it
// drains, another SIGTERM or interrupt ends the process at once.
func Run(ctx context.Context, cfg Config, ready func(*Node)) error {
	n, err := Start(ctx, cfg)
	if err != nil {
		return err
	}
	n.log.Info("node started", "node", n.cfg.NodeName, "clients", n.ClientURL(), "gossip", n.GossipAddr(), "data", n.cfg.DataDir)
	if err = n.waitReady(ctx); err == nil {
		n.log.Info("node is ready", "node", n.cfg.NodeName)
		if ready != nil {
			ready(n)
		}
		select {
		case <-ctx.Done():
		case err = <-n.fatal:
		}
	}
	if errors.Is(err, errRemoved) {
		n.log.Info("this node has left its cluster for good; its data directory is of no use any more", "data", n.cfg.DataDir)
		err = nil
	}
	if ctx.Err() != nil {
		err = nil
	}
	stopNow := endAtSecondSignal()
	defer stopNow()
	drain, cancel := context.WithTimeout(context.Background(), n.cfg.DrainTimeout)
	defer cancel()
	if errors.Is(err, ErrDisk) {
		cancel() // nothing more is served from a disk that failed
	}
	n.Stop(drain)
	return err
}

// waitReady returns when the node is ready, ctx ends, or it can't go on.
func (n *Node) waitReady(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for n.ready() != nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-n.fatal:
			return err
		case <-tick.C:
		}
	}
	return nil
}

func endAtSecondSignal() (stop func()) {
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGTERM, os.Interrupt)
	done := make(chan struct{})
	go func() {
		select {
		case <-again:
			os.Exit(1)
		case <-done:
		}
	}()
	return func() {
		signal.Stop(again)
		close(done)
	}
}
