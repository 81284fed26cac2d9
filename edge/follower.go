package edge

import (
	"context"
	"sync/atomic"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// follower pulls one subscription for a stream. All but its wake-up belongs to
// the goroutine that writes the stream.
type follower struct {
	reader reader
	number *uint64       // of its subscribe; nil: the client gave none
	first  *broker.Batch // pulled before the stream began, not yet written
	cursor string        // behind everything that fill has passed
	given  string        // the last cursor that an item carried, or the first one
	ready  atomic.Bool   // there may be something to pull
	signal func()        // tells the writing goroutine
	wake   func()        // made once: arming allocates nothing

	selectors  []protocol.Selector
	onGapError bool
	narrowed   bool // selectors are fewer than the reader's: to be subscribed anew
	attendance *attendance
}

// follow pulls the first batch: errors such as a gap that the reader will not
// have are then known before the stream begins. It gives partitions that this
// node holds no replica of a moment to say where they are, since until then the
// cursor can only say "from the beginning" for them.
func follow(ctx context.Context, r reader, signal func()) (*follower, error) {
	settle, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	if err := r.Settle(settle); err != nil && settle.Err() == nil {
		return nil, err
	}
	f := &follower{reader: r, signal: signal, cursor: r.Cursor()}
	f.wake = func() {
		f.ready.Store(true)
		f.signal()
	}
	f.ready.Store(true)
	b, err := r.Pull(pullEvents)
	if err != nil {
		return nil, err
	}
	if len(b.Items) == 0 {
		f.cursor = b.Cursor
	}
	f.given, f.first = f.cursor, &b
	return f, nil
}

// fill appends what is there, up to about fillBytes. Its last answer says
// whether there is more; if not, the signal comes with the next event.
func (f *follower) fill(dst []byte, e encoding, number *uint64) (_ []byte, more bool, err error) {
	f.ready.Store(false)
	dst = f.attendance.fill(dst, e, number)
	for len(dst) < fillBytes {
		b, err := f.next()
		if err != nil {
			return dst, false, err
		}
		for i := range b.Items {
			dst = e.appendItem(dst, number, &b.Items[i])
			if c := b.Items[i].Cursor; c != "" {
				f.given = c
			}
		}
		f.cursor = b.Cursor
		if (b.UpToDate || len(b.Items) == 0) && f.reader.Arm(f.wake) {
			return dst, false, nil
		}
	}
	f.ready.Store(true)
	return dst, true, nil
}

func (f *follower) next() (broker.Batch, error) {
	if f.first != nil {
		b := *f.first
		f.first = nil
		return b, nil
	}
	return f.reader.Pull(pullEvents)
}

// signaler makes a signal function on a channel of capacity 1.
func signaler(c chan struct{}) func() {
	return func() {
		select {
		case c <- struct{}{}:
		default: // one signal is enough
		}
	}
}
