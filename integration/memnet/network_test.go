package memnet

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

const (
	hostA, hostB = "10.0.0.1", "10.0.0.2"
	addrB        = hostB + ":1"
)

func dialOneSecond(n *Network) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return n.Dial(ctx, hostA, addrB)
}

func TestACutBreaksConnectionsAndHealingAllowsNewOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		l, err := n.Listen(addrB)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ends := make(chan net.Conn, 2)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				ends <- c
			}
		}()
		c, err := dialOneSecond(n)
		if err != nil {
			t.Fatal(err)
		}
		there := <-ends
		n.Cut([]string{hostA}, []string{hostB})
		if _, err := there.Read(make([]byte, 1)); err == nil {
			t.Error("read across a cut: got no error")
		}
		_ = c.Close()
		if _, err := dialOneSecond(n); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dial across a cut: got %v, want a time-out", err)
		}
		n.Heal()
		if c, err = dialOneSecond(n); err != nil {
			t.Fatalf("dial after healing: %v", err)
		}
		go func() { _, _ = c.Write([]byte("x")) }()
		got := make([]byte, 1)
		if _, err := io.ReadFull(<-ends, got); err != nil || got[0] != 'x' {
			t.Errorf("got %q, %v, want x", got, err)
		}
		_ = c.Close()
	})
}

func TestNobodyListeningIsRefused(t *testing.T) {
	n := New()
	if _, err := dialOneSecond(n); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v, want ECONNREFUSED", err)
	}
	l, err := n.Listen(addrB)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Listen(addrB); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v, want EADDRINUSE", err)
	}
	_ = l.Close()
	if _, err := dialOneSecond(n); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after Close: got %v, want ECONNREFUSED", err)
	}
}

func TestPacketsArriveUnlessCutOrUnheard(t *testing.T) {
	n := New()
	a, b := n.Transport(hostA+":1"), n.Transport(addrB)
	send := func() {
		if _, err := a.WriteTo([]byte("x"), addrB); err != nil {
			t.Errorf("got %v, want packets to be lost without a word", err)
		}
	}
	send()
	if p := <-b.PacketCh(); string(p.Buf) != "x" || p.From.String() != hostA+":1" {
		t.Errorf("got %q from %v, want x from a", p.Buf, p.From)
	}
	n.Cut([]string{hostA}, []string{hostB})
	send()
	n.Heal()
	for range maxPackets + 10 {
		send() // must not block
	}
	if got := len(b.PacketCh()); got != maxPackets {
		t.Errorf("got %d packets waiting, want %d", got, maxPackets)
	}
	_ = b.Shutdown()
	send()
}
