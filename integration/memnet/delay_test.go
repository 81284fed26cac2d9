package memnet

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// connected is both ends of a connection from A to B.
func connected(t *testing.T, n *Network) (here, there net.Conn) {
	t.Helper()
	l, err := n.Listen(addrB)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, _ := l.Accept()
		accepted <- c
	}()
	if here, err = dialOneSecond(n); err != nil {
		t.Fatal(err)
	}
	return here, <-accepted
}

func wantByte(t *testing.T, c net.Conn, want byte) {
	t.Helper()
	got := make([]byte, 1)
	if _, err := io.ReadFull(c, got); err != nil || got[0] != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestWhatIsSentAcrossAOneWayCutComesOnceItIsHealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		a, b := connected(t, n)
		n.CutOneWay([]string{hostA}, []string{hostB})
		if _, err := dialOneSecond(n); err == nil {
			t.Error("a connection was made across a one-way cut")
		}
		go func() { _, _ = b.Write([]byte("y")) }()
		wantByte(t, a, 'y')
		go func() { _, _ = a.Write([]byte("x")) }()
		_ = b.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v, want a time-out", err)
		}
		_ = b.SetReadDeadline(time.Time{})
		began := time.Now()
		time.AfterFunc(time.Minute, n.Heal)
		wantByte(t, b, 'x')
		if took := time.Since(began); took != time.Minute {
			t.Errorf("it came after %v, want a minute", took)
		}
		_, _ = a.Close(), b.Close()
	})
}

func TestAPausedHostGetsAllInOrderWhenItResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		a, b := connected(t, n)
		from, to := n.Transport(hostA+":1"), n.Transport(addrB)
		n.Pause(hostB)
		for _, text := range []string{"1", "2"} {
			if _, err := from.WriteTo([]byte(text), addrB); err != nil {
				t.Fatal(err)
			}
		}
		go func() { _, _ = a.Write([]byte("x")) }()
		time.AfterFunc(5*time.Second, func() { n.Resume(hostB) })
		wantByte(t, b, 'x')
		for _, want := range []string{"1", "2"} {
			if p := <-to.PacketCh(); string(p.Buf) != want {
				t.Errorf("got the packet %q, want %q", p.Buf, want)
			}
		}
		n.Pause(hostA)
		go func() { _, _ = b.Write([]byte("x")) }()
		time.AfterFunc(time.Second, func() { _ = a.Close() })
		if _, err := a.Read(make([]byte, 1)); err == nil {
			t.Error("got no error of a connection that was closed while it was held")
		}
		_ = b.Close()
	})
}
