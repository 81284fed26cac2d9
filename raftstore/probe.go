package raftstore

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// probe finds out, after a node's connection broke, whether its process is dead, and has the groups it led elect a
// new leader at once instead of after HeartbeatTimeout. Only a refused connection counts: slowness never does.
func (m *mux) probe(node string) {
	m.mu.Lock()
	busy := m.probing[node]
	m.probing[node] = true
	m.mu.Unlock()
	if busy {
		return
	}
	defer func() {
		m.mu.Lock()
		delete(m.probing, node)
		m.mu.Unlock()
	}()
	if !m.leads(node) || !m.refused(node) {
		return
	}
	m.succeedAll(node)
}

// refused redials until the node answers or refuses. Between the reset of its connections and the closing of its
// listener a dying process may still seem to accept, so only time tells.
func (m *mux) refused(node string) bool {
	ctx, cancel := context.WithTimeout(m.ctx, probeFor)
	defer cancel()
	again := time.NewTicker(probeEvery)
	defer again.Stop()
	accepted := 0
	for {
		conn, err := m.dialPeer(ctx, node)
		if err == nil {
			_ = conn.Close()
			if accepted++; accepted > 2 {
				return false
			}
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			return true
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return false
		}
	}
}
