package raftstore

import (
	"sync"
	"sync/atomic"
	"time"
)

// hearing is when something came last from each node, over any connection.
// Leaders of several groups are heard several times within one's HeartbeatTimeout.
type hearing struct {
	mu sync.Mutex // guards at
	at map[string]*atomic.Int64
}

// from returns a node's cell, which its connections write to.
func (h *hearing) from(node string) *atomic.Int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.at == nil {
		h.at = map[string]*atomic.Int64{}
	}
	cell := h.at[node]
	if cell == nil {
		cell = &atomic.Int64{}
		h.at[node] = cell
	}
	return cell
}

func hear(cell *atomic.Int64) { cell.Store(time.Now().UnixNano()) }

// Silence returns for how long nothing has come from a node. known is false if nothing ever did.
func (s *Store) Silence(node string) (d time.Duration, known bool) {
	at := s.mux.heard.from(node).Load()
	return time.Since(time.Unix(0, at)), at != 0
}

// Leads reports whether a node leads a group in which this node could follow it.
func (s *Store) Leads(node string) bool { return s.mux.leads(node) }

// Succeed has the groups that a node leads elect another leader at once, by rank, instead of after HeartbeatTimeout.
// It is for callers who have found out that the node hangs or is cut off from the others, too: it brings down a leader
// that lives.
func (s *Store) Succeed(node string) { s.mux.succeedAll(node) }
