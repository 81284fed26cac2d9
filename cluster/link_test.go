package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pushd/pushd/integration/memnet"
)

// pair is two links, a and b, over loopback.
type pair struct {
	a, b         *Link
	addrA, addrB string
}

func newPair(t testing.TB) *pair {
	t.Helper()
	return newPairOf(t, BuildProtocols(), BuildProtocols())
}

// newPairOf is two links that understand these versions, and know it of each other.
func newPairOf(t testing.TB, ofA, ofB Protocols) *pair {
	t.Helper()
	p := &pair{}
	la, lb := listenLoopback(t), listenLoopback(t)
	p.addrA, p.addrB = la.Addr().String(), lb.Addr().String()
	resolve := func(id string) (string, bool) {
		addr, ok := map[string]string{"a": p.addrA, "b": p.addrB}[id]
		return addr, ok
	}
	cluster := func() string { return "c" }
	p.a = NewLink(LinkOptions{Self: "a", ClusterID: cluster, Listener: la, Resolve: resolve, Protocols: ofA, Theirs: known(ofB)})
	p.b = NewLink(LinkOptions{Self: "b", ClusterID: cluster, Listener: lb, Resolve: resolve, Protocols: ofB, Theirs: known(ofA)})
	t.Cleanup(func() {
		_ = p.a.Close()
		_ = p.b.Close()
	})
	return p
}

func known(p Protocols) func(string) (Protocols, bool) {
	return func(string) (Protocols, bool) { return p, true }
}

func listenLoopback(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func echo(_ context.Context, from string, req []byte) ([]byte, error) {
	return append([]byte(from+":"), req...), nil
}

func TestACallIsAnswered(t *testing.T) {
	p := newPair(t)
	p.b.Handle(7, echo)
	got, err := p.a.Call(t.Context(), "b", 7, []byte("hi"))
	if err != nil || string(got) != "a:hi" {
		t.Errorf("got %q, %v, want a:hi", got, err)
	}
}

func TestARefusalArrivesWithItsCode(t *testing.T) {
	p := newPair(t)
	p.b.Handle(1, func(context.Context, string, []byte) ([]byte, error) {
		return nil, fmt.Errorf("wrapped: %w", &RemoteError{"not_leader", "ask n2"})
	})
	p.b.Handle(2, func(context.Context, string, []byte) ([]byte, error) { return nil, errors.New("oops") })
	p.b.Handle(3, func(context.Context, string, []byte) ([]byte, error) { return make([]byte, maxFrameBytes), nil })
	for method, want := range map[uint8]RemoteError{
		1: {"not_leader", "ask n2"}, 2: {codeInternal, "oops"},
		3: {CodeTooLarge, "an answer of 16777216 bytes, at most 16777203"}, 9: {CodeNoMethod, "method 9 is not known to this node"},
	} {
		_, err := p.a.Call(t.Context(), "b", method, nil)
		if got, ok := errors.AsType[*RemoteError](err); !ok || *got != want {
			t.Errorf("method %d: got %v, want %v", method, err, want)
		}
	}
}

func TestManyCallsAtOnceShareOneConnection(t *testing.T) {
	p := newPair(t)
	var conns atomic.Int32
	p.b.Handle(1, func(ctx context.Context, from string, req []byte) ([]byte, error) {
		p.b.mu.Lock()
		conns.Store(max(conns.Load(), int32(len(p.b.conns))))
		p.b.mu.Unlock()
		return echo(ctx, from, req)
	})
	var wg sync.WaitGroup
	for i := range 500 {
		wg.Go(func() {
			want := fmt.Sprintf("a:%d", i)
			if got, err := p.a.Call(t.Context(), "b", 1, []byte(want[2:])); err != nil || string(got) != want {
				t.Errorf("got %q, %v, want %s", got, err, want)
			}
		})
	}
	wg.Wait()
	if got := conns.Load(); got != 1 {
		t.Errorf("got %d connections, want 1", got)
	}
}

func TestANodeThatIsNotThereIsUnreachable(t *testing.T) {
	p := newPair(t)
	_ = p.b.Close()
	_, err := p.a.Call(t.Context(), "b", 1, nil)
	if !errors.Is(err, ErrUnreachable) || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Call: got %v, want ErrUnreachable and ECONNREFUSED", err)
	}
	_, err = p.a.Dial(t.Context(), "b", KindRaft)
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Dial: got %v, want ECONNREFUSED", err)
	}
	if _, err = p.a.Call(t.Context(), "stranger", 1, nil); !errors.Is(err, ErrUnreachable) {
		t.Errorf("unknown node: got %v, want ErrUnreachable", err)
	}
	if _, err = p.a.Call(t.Context(), "b", 1, make([]byte, maxFrameBytes)); !errors.Is(err, ErrUnreachable) {
		t.Errorf("too large: got %v, want ErrUnreachable", err)
	}
}

func TestACallUnderWayWhenTheOtherDiesHasAnUnknownOutcome(t *testing.T) {
	p := newPair(t)
	arrived := make(chan struct{})
	p.b.Handle(1, func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
		close(arrived)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	failed := make(chan error, 1)
	go func() {
		_, err := p.a.Call(t.Context(), "b", 1, nil)
		failed <- err
	}()
	<-arrived
	p.b.mu.Lock()
	for conn := range p.b.conns {
		_ = conn.Close()
	}
	p.b.mu.Unlock()
	if err := <-failed; !errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("got %v, want ErrOutcomeUnknown", err)
	}
	p.b.Handle(1, echo)
	if got, err := p.a.Call(t.Context(), "b", 1, nil); err != nil || string(got) != "a:" {
		t.Errorf("next call: got %q, %v, want a new connection and an answer", got, err)
	}
}

func TestACallGivenUpHasAnUnknownOutcome(t *testing.T) {
	p := newPair(t)
	p.b.Handle(1, func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := p.a.Call(ctx, "b", 1, nil)
	if !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want ErrOutcomeUnknown and the deadline", err)
	}
}

func TestRequestsThatWereNeverWrittenAreUnreachable(t *testing.T) {
	w := newWriter(nil, 1)
	for id := range uint64(3) {
		if err := w.add(id+1, 1, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	w.giveBack(w.take())
	if err := w.add(4, 1, nil); err != nil {
		t.Fatal(err)
	}
	unsent := w.close()
	if _, ok := unsent[4]; !ok || len(unsent) != 1 {
		t.Errorf("got unsent %v, want 4 alone", unsent)
	}
	if err := w.add(5, 1, nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("add after close: got %v, want net.ErrClosed", err)
	}
}

func TestAFrozenNodeIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own, frozen := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, frozen) }() // its kernel lives
		network := memnet.New()
		listener, err := network.Listen("10.0.0.1:7341")
		if err != nil {
			t.Fatal(err)
		}
		a := NewLink(LinkOptions{Self: "a", Listener: listener})
		defer a.Close()
		a.mu.Lock()
		a.startCaller("b", own, 1)
		a.mu.Unlock()
		start := time.Now()
		_, err = a.Call(t.Context(), "b", 1, nil)
		if took := time.Since(start); !errors.Is(err, ErrOutcomeUnknown) || took > silenceLimit+2*pingPeriod {
			t.Errorf("got %v after %v, want ErrOutcomeUnknown within %v", err, took, silenceLimit+2*pingPeriod)
		}
	})
}

// TestAFrozenNodeIsGivenUpByShortCallsToo has callers that wait for less than
// the link does.
func TestAFrozenNodeIsGivenUpByShortCallsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own, frozen := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, frozen) }() // its kernel lives
		a := &Link{callers: map[string]*caller{}, log: slog.New(slog.DiscardHandler)}
		a.startCaller("b", own, 1)
		c := a.callers["b"]
		for start := time.Now(); !c.isBroken(); time.Sleep(20 * time.Millisecond) {
			if time.Since(start) > silenceLimit+2*pingPeriod {
				t.Fatalf("not given up within %v", silenceLimit+2*pingPeriod)
			}
			if id, _, err := c.begin(); err == nil {
				_ = c.writer.add(id, 1, nil)
				time.Sleep(200 * time.Millisecond)
				c.end(id)
			}
		}
		a.wg.Wait()
	})
}

func TestAWrongHelloIsRefusedInWords(t *testing.T) {
	p := newPair(t)
	for _, c := range []struct {
		h    hello
		want string
	}{
		{hello{"c", "a", "x", kindCall, 1}, "this is node b of cluster c, you asked for node x"},
		{hello{"d", "a", "b", kindCall, 1}, "this is node b of cluster c, you asked for it in cluster d"},
		{hello{"c", "a", "b", 99, 1}, "kind 99"},
		{hello{"", "a", "b", kindCall, 1}, ""},
	} {
		conn, err := net.Dial("tcp", p.addrB)
		if err != nil {
			t.Fatal(err)
		}
		err = p.a.greet(t.Context(), conn, c.h)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: got %v, want %q", c.h, err, c.want)
		}
		_ = conn.Close()
	}
}

func TestAStrangersBytesAreRefused(t *testing.T) {
	p := newPair(t)
	conn, err := net.Dial("tcp", p.addrB)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(conn)
	if !bytes.Contains(answer, []byte("not a pushd node's hello")) {
		t.Errorf("got %q, want the refusal", answer)
	}
}

func TestConnectionsOfAKindGoToItsListener(t *testing.T) {
	p := newPair(t)
	p.b.Handle(1, echo)
	l := p.b.Listen(KindRaft)
	out, err := p.a.Dial(t.Context(), "b", KindRaft)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if _, err := out.Write([]byte("raft")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(in, got); err != nil || string(got) != "raft" {
		t.Errorf("got %q, %v, want raft", got, err)
	}
	_ = l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: got %v, want net.ErrClosed", err)
	}
	if _, err := p.a.Call(t.Context(), "b", 1, nil); err != nil {
		t.Errorf("calls after the listener's Close: got %v, want them to go on", err)
	}
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	p := newPair(t)
	arrived := make(chan struct{})
	p.b.Handle(1, func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
		close(arrived)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	failed := make(chan error, 1)
	go func() {
		_, err := p.a.Call(t.Context(), "b", 1, nil)
		failed <- err
	}()
	<-arrived
	_ = p.a.Close()
	if err := <-failed; !errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("got %v, want ErrOutcomeUnknown", err)
	}
	if _, err := p.a.Call(t.Context(), "b", 1, nil); !errors.Is(err, ErrUnreachable) {
		t.Errorf("after Close: got %v, want ErrUnreachable", err)
	}
	_ = p.b.Close()
	if _, err := p.b.Listen(KindRaft).Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Listen after Close: got %v, want a closed listener", err)
	}
}

func TestAStreamDeliversInOrderAndEnds(t *testing.T) {
	p := newPair(t)
	p.b.HandleStream(1, func(_ context.Context, from string, req []byte, send func([]byte) error) error {
		for i := range 1000 {
			if err := send(fmt.Appendf(nil, "%s %s %d", from, req, i)); err != nil {
				return err
			}
		}
		return nil
	})
	next := 0
	err := p.a.Stream(t.Context(), "b", 1, []byte("x"), func(frame []byte) error {
		if want := fmt.Sprintf("a x %d", next); string(frame) != want {
			t.Errorf("got %q, want %q", frame, want)
		}
		next++
		return nil
	})
	if err != nil || next != 1000 {
		t.Errorf("got %d frames, %v, want 1000", next, err)
	}
}

func TestAStreamEndsAsItsSidesSay(t *testing.T) {
	p := newPair(t)
	ended := make(chan error, 1)
	p.b.HandleStream(1, func(ctx context.Context, _ string, _ []byte, send func([]byte) error) error {
		err := send([]byte("first"))
		<-ctx.Done()
		ended <- ctx.Err()
		return err
	})
	p.b.HandleStream(2, func(context.Context, string, []byte, func([]byte) error) error {
		return &RemoteError{"gone", "past retention"}
	})
	ctx, cancel := context.WithCancel(t.Context())
	err := p.a.Stream(ctx, "b", 1, nil, func([]byte) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) || <-ended == nil {
		t.Errorf("cancelled: got %v, want context.Canceled on both sides", err)
	}
	enough := errors.New("enough")
	err = p.a.Stream(t.Context(), "b", 1, nil, func([]byte) error { return enough })
	if !errors.Is(err, enough) || <-ended == nil {
		t.Errorf("recv: got %v, want its own error", err)
	}
	for method, want := range map[uint8]string{2: "gone: past retention", 9: "bad_request: stream 9 is not known to this node"} {
		if err := p.a.Stream(t.Context(), "b", method, nil, nil); err == nil || err.Error() != want {
			t.Errorf("method %d: got %v, want %s", method, err, want)
		}
	}
	err = p.a.Stream(t.Context(), "b", 1, nil, func([]byte) error { go p.b.Close(); return nil })
	if !errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("the other closed: got %v, want ErrOutcomeUnknown, not the stream's end", err)
	}
}

func TestASlowReceiverHoldsTheSenderUp(t *testing.T) {
	p := newPair(t)
	var sent atomic.Int64
	p.b.HandleStream(1, func(_ context.Context, _ string, _ []byte, send func([]byte) error) error {
		frame := make([]byte, 1<<20)
		for range 64 {
			if err := send(frame); err != nil {
				return err
			}
			sent.Add(1)
		}
		return nil
	})
	received, most := int64(0), int64(0)
	err := p.a.Stream(t.Context(), "b", 1, nil, func([]byte) error {
		if received == 0 {
			timer := time.NewTimer(200 * time.Millisecond)
			<-timer.C // as long as the sender could have sent everything
			most = sent.Load()
		}
		received++
		return nil
	})
	if err != nil || received != 64 || most > 32 {
		t.Errorf("got %d frames, %d sent ahead, %v; want 64, and at most 32 ahead", received, most, err)
	}
}

func TestACallAllocatesLittle(t *testing.T) {
	p := newPair(t)
	req := make([]byte, 256)
	p.b.Handle(1, func(context.Context, string, []byte) ([]byte, error) { return nil, nil })
	got := testing.AllocsPerRun(500, func() {
		if _, err := p.a.Call(t.Context(), "b", 1, req); err != nil {
			t.Error(err)
		}
	})
	if got > 12 {
		t.Errorf("got %.1f allocations per call, want at most 12", got)
	}
}

func BenchmarkCall(b *testing.B) {
	for _, callers := range []int{1, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			p := newPair(b)
			req := make([]byte, 256)
			p.b.Handle(1, func(context.Context, string, []byte) ([]byte, error) { return nil, nil })
			b.ReportAllocs()
			b.SetBytes(256)
			b.SetParallelism(callers)
			if callers == 1 {
				for b.Loop() {
					if _, err := p.a.Call(b.Context(), "b", 1, req); err != nil {
						b.Fatal(err)
					}
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := p.a.Call(b.Context(), "b", 1, req); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

func BenchmarkStream(b *testing.B) {
	p := newPair(b)
	frame := make([]byte, 256)
	p.b.HandleStream(1, func(_ context.Context, _ string, _ []byte, send func([]byte) error) error {
		for range b.N {
			if err := send(frame); err != nil {
				return err
			}
		}
		return nil
	})
	b.ReportAllocs()
	if err := p.a.Stream(b.Context(), "b", 1, nil, func([]byte) error { return nil }); err != nil {
		b.Fatal(err)
	}
}
