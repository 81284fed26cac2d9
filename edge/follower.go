package edge

import (
	"context"
	"sync/atomic"

	"github.com/pushd/pushd/broker"
)

// follower pulls one subscription for a stream of net/http's. All but its
// wake-up belongs to the goroutine that writes the stream.
type follower struct {
	reader reader
	first  *broker.Batch // pulled before the stream began, not yet written
	cursor string        // behind everything that fill has passed
	given  string        // the last cursor that an item carried, or the first one
	ready  atomic.Bool   // there may be something to pull
	wake   func()        // made once: arming allocates nothing

	attendance *attendance
}

// newFollower begins a reader, which it closes with an error. signal tells the
// writing goroutine that there is something.
func newFollower(ctx context.Context, r reader, signal func()) (*follower, error) {
	o, err := begin(ctx, r, pullEvents)
	if err != nil {
		return nil, err
	}
	f := &follower{reader: r, cursor: o.cursor, given: o.cursor, first: &o.first}
	f.wake = func() {
		f.ready.Store(true)
		signal()
	}
	f.ready.Store(true)
	return f, nil
}

// fill appends what is there, up to about fillBytes. Its last answer says
// whether there is more; if not, the signal comes with the next event.
func (f *follower) fill(dst []byte, e encoding) (_ []byte, more bool, err error) {
	f.ready.Store(false)
	dst = f.attendance.fill(dst, e, nil)
	for len(dst) < fillBytes {
		b, err := f.next()
		if err != nil {
			return dst, false, err
		}
		for i := range b.Items {
			dst = e.appendItem(dst, nil, &b.Items[i])
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
