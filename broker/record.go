package broker

import (
	"sync/atomic"

	"github.com/pushd/pushd/protocol"
)

// A Record is an event at its place in a partition. It never changes and is
// shared by all readers.
type Record struct {
	protocol.Event
	Position uint64 // number in the partition, from 1, dense; 0 for an event that is never stored

	envelope atomic.Pointer[[]byte]
	kind     atomic.Uint32 // protocol.Kind + 1; 0: not looked at yet
}

// Kind is the event's, looked at once for all readers: it takes reading the
// whole payload.
func (r *Record) Kind() protocol.Kind {
	if k := r.kind.Load(); k != 0 {
		return protocol.Kind(k - 1)
	}
	k := r.Event.Kind()
	r.kind.Store(uint32(k) + 1)
	return k
}

// Envelope is the event's JSON envelope without cursor and closing brace,
// encoded once for all readers: see [protocol.AppendEnvelope]. Not to be
// changed.
func (r *Record) Envelope() []byte {
	if b := r.envelope.Load(); b != nil {
		return *b
	}
	b := protocol.AppendEnvelope(make([]byte, 0, 192+len(r.Topic)+len(r.Data)), &r.Event)
	r.envelope.Store(&b)
	return b
}

// deletion says whether the record marks the deletion of its topic.
func (r *Record) deletion() bool { return r.Offset == 0 && r.Position != 0 }
