package raftstore

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// beats hold heartbeats back until the node's next beat, so that those of all groups leave together: what a heartbeat
// costs an idle node is its wake-ups, not its bytes. hashicorp/raft would send one every tenth to fifth of
// HeartbeatTimeout, for each group and follower, at times of its own; it begins the next wait when the last call has
// returned, so a quarter between two beats is also the time between two heartbeats.
type beats struct {
	every time.Duration
	start time.Time

	mu   sync.Mutex    // guards next
	next chan struct{} // closed by the next beat; nil if nobody waits for one
}

func newBeats(heartbeatTimeout time.Duration) *beats {
	return &beats{every: heartbeatTimeout / beatsPerTimeout, start: time.Now()}
}

// wait returns at the next beat, or when ctx ends.
func (b *beats) wait(ctx context.Context) {
	b.mu.Lock()
	if b.next == nil {
		b.next = make(chan struct{})
		time.AfterFunc(b.every-time.Since(b.start)%b.every, b.fire)
	}
	next := b.next
	b.mu.Unlock()
	select {
	case <-next:
	case <-ctx.Done():
	}
}

func (b *beats) fire() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.next)
	b.next = nil
}

// burst is the heartbeats of one beat, as a connection's reader finds them: handed to their groups at once, and answered
// together.
type burst struct{ taken []taken }

type taken struct {
	port *port
	in   inbound
}

// take gives a heartbeat to its group, if that waits for one. Overtaking what is in its inbox does no harm.
func (b *burst) take(p *port, in inbound) bool {
	select {
	case p.consumer <- raft.RPC{Command: in.command, RespChan: in.answer}:
		b.taken = append(b.taken, taken{p, in})
		return true
	default:
		return false
	}
}

// answer sends the answers. The groups run meanwhile; the reader waits for none that takes longer.
func (b *burst) answer() {
	if len(b.taken) == 0 {
		return
	}
	runtime.Gosched()
	for i, t := range b.taken {
		select {
		case r := <-t.in.answer:
			t.port.answer(t.in, r)
		default:
			select {
			case t.port.answering <- t.in:
			default: // a group that can not keep up: its leader asks again
			}
		}
		b.taken[i] = taken{}
	}
	b.taken = b.taken[:0]
}
