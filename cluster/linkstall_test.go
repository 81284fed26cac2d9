package cluster

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pushd/pushd/integration/memnet"
)

// TestAReceiverThatPausesForLongKeepsItsStream has amounts that fill the kernel's
// buffers and stall the sender, and some that leave it done with a rest under way.
func TestAReceiverThatPausesForLongKeepsItsStream(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.b.HandleStream(1, func(_ context.Context, _ string, req []byte, send func([]byte) error) error {
		frame := make([]byte, 1<<19)
		for range req[0] {
			if err := send(frame); err != nil {
				return err
			}
		}
		return nil
	})
	var wg sync.WaitGroup
	for _, frames := range []byte{4, 6, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 64} {
		wg.Go(func() {
			received := byte(0)
			err := p.a.Stream(t.Context(), "b", 1, []byte{frames}, func([]byte) error {
				if received++; received == 1 {
					<-time.After(silenceLimit + pingPeriod/2)
				}
				return nil
			})
			if err != nil || received != frames {
				t.Errorf("got %d frames of %d, %v", received, frames, err)
			}
		})
	}
	wg.Wait()
}

func TestAStreamToASilentNodeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New()
		l, err := network.Listen("10.0.0.2:7341")
		if err != nil {
			t.Fatal(err)
		}
		b := NewLink(LinkOptions{Self: "b", ClusterID: func() string { return "c" }, Listener: l})
		defer b.Close()
		ended := make(chan struct{})
		b.HandleStream(1, func(ctx context.Context, _ string, _ []byte, _ func([]byte) error) error {
			<-ctx.Done()
			close(ended)
			return ctx.Err()
		})
		conn, err := network.Dial(t.Context(), "10.0.0.1", "10.0.0.2:7341")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := b.greet(t.Context(), conn, hello{"c", "a", "b", kindStream, 1}); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := conn.Write(appendStreamFrame(nil, 1, nil)); err != nil {
			t.Fatal(err)
		}
		<-ended
		if got := time.Since(start); got != silenceLimit {
			t.Errorf("got the handler's context ended after %v, want %v", got, silenceLimit)
		}
	})
}
