package cluster

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pushd/pushd/integration/memnet"
)

// inMemory makes a link b on a network in memory, in fake time, and a connection
// for calls to it by a.
func inMemory(t *testing.T) (a, b *Link) {
	t.Helper()
	return inMemoryOver(t, func(conn net.Conn) net.Conn { return conn })
}

// inMemoryOver has what wrap makes of the connection.
func inMemoryOver(t *testing.T, wrap func(net.Conn) net.Conn) (a, b *Link) {
	t.Helper()
	network := memnet.New()
	l, err := network.Listen("10.0.0.2:7341")
	if err != nil {
		t.Fatal(err)
	}
	la, err := network.Listen("10.0.0.1:7341")
	if err != nil {
		t.Fatal(err)
	}
	cluster := func() string { return "c" }
	b = NewLink(LinkOptions{Self: "b", ClusterID: cluster, Listener: l})
	a = NewLink(LinkOptions{Self: "a", ClusterID: cluster, Listener: la})
	conn, err := network.Dial(t.Context(), "10.0.0.1", "10.0.0.2:7341")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.greet(t.Context(), conn, hello{"c", "a", "b", kindCall, 1}); err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.startCaller("b", wrap(conn), 1)
	return a, b
}

func TestABusyNodeIsNotTakenForADeadOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := inMemory(t)
		defer b.Close()
		defer a.Close()
		b.Handle(1, func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
			select {
			case <-time.After(time.Minute):
			case <-ctx.Done():
			}
			return nil, ctx.Err()
		})
		var wg sync.WaitGroup
		var answered atomic.Int32
		for range 3000 {
			wg.Go(func() {
				if _, err := a.Call(t.Context(), "b", 1, nil); err == nil {
					answered.Add(1)
				}
			})
		}
		wg.Wait()
		if got := answered.Load(); got != 3000 {
			t.Errorf("got %d answers from a slow node, want 3000", got)
		}
	})
}

func TestCallsBeyondWhatANodeTakesAreRefusedAtOnce(t *testing.T) {
	var l load
	if !l.begin(maxServingBytes + 1) {
		t.Error("one call alone: got a refusal, want it taken whatever its size")
	}
	if l.begin(1) {
		t.Error("beyond the bytes: got it taken, want a refusal")
	}
	l.end(maxServingBytes + 1)
	for range maxServing {
		if !l.begin(1) {
			t.Fatal("within the limits: got a refusal")
		}
	}
	if l.begin(1) {
		t.Error("beyond the calls: got it taken, want a refusal")
	}
}

func TestAnOverloadedNodeSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := inMemory(t)
		defer b.Close()
		defer a.Close()
		b.Handle(1, func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		large := make([]byte, 15<<20)
		for range maxServingBytes / len(large) {
			go func() { _, _ = a.Call(t.Context(), "b", 1, large) }()
			synctest.Wait()
		}
		_, err := a.Call(t.Context(), "b", 1, large)
		if refusal, ok := errors.AsType[*RemoteError](err); !ok || refusal.Code != codeOverloaded {
			t.Errorf("got %v, want a refusal with the code %s", err, codeOverloaded)
		}
	})
}

func TestAHandlerLearnsThatItsCallersConnectionBroke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := inMemory(t)
		defer b.Close()
		ended := make(chan struct{})
		b.Handle(1, func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
			<-ctx.Done()
			close(ended)
			return nil, ctx.Err()
		})
		go func() { _, _ = a.Call(t.Context(), "b", 1, nil) }()
		synctest.Wait()
		_ = a.Close()
		<-ended
	})
}
