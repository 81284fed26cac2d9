package cluster

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"strings"
	"testing"
)

func TestTwoNodesSpeakTheNewestVersionThatBothUnderstand(t *testing.T) {
	for name, c := range map[string]struct {
		a, b    Protocols
		checked bool
	}{
		"both new":      {Protocols{Min: 1, Max: 2}, Protocols{Min: 1, Max: 2}, true},
		"old calls new": {Protocols{Min: 1, Max: 1}, Protocols{Min: 1, Max: 2}, false},
		"new calls old": {Protocols{Min: 1, Max: 2}, Protocols{Min: 1, Max: 1}, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPairOf(t, c.a, c.b)
			p.b.Handle(7, echo)
			for range 3 {
				if got, err := p.a.Call(t.Context(), "b", 7, []byte("hi")); err != nil || string(got) != "a:hi" {
					t.Fatalf("got %q, %v, want a:hi", got, err)
				}
			}
			p.a.mu.Lock()
			checked := p.a.callers["b"].writer.checked
			p.a.mu.Unlock()
			if checked != c.checked {
				t.Errorf("got checked frames: %v, want %v", checked, c.checked)
			}
		})
	}
}

func TestANodeThatIsNotKnownIsSpokenToInTheOldestVersion(t *testing.T) {
	p := newPair(t)
	p.a.options.Theirs = func(string) (Protocols, bool) { return Protocols{}, false }
	if got := p.a.version("b"); got != 1 {
		t.Errorf("got version %d, want 1", got)
	}
}

func TestAVersionThatTheOtherNodeDoesNotUnderstandIsRefusedInWords(t *testing.T) {
	p := newPairOf(t, Protocols{Min: 1, Max: 2}, Protocols{Min: 1, Max: 1})
	p.a.options.Theirs = known(Protocols{Min: 1, Max: 2}) // as before it was downgraded
	if _, err := p.a.Call(t.Context(), "b", 7, nil); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "speaks protocol version 1, you spoke version 2") {
		t.Errorf("got %v, want ErrUnreachable that names both versions", err)
	}
}

// damaged flips a bit of each write that has a mark in it.
type damaged struct {
	net.Conn
	mark []byte
}

func (d damaged) Write(b []byte) (int, error) {
	if at := bytes.Index(b, d.mark); at >= 0 {
		b = bytes.Clone(b)
		b[at] ^= 1
	}
	return d.Conn.Write(b)
}

func TestBytesThatTheNetworkDamagedAreNeverTakenForACallOrAnAnswer(t *testing.T) {
	p := newPair(t)
	p.b.Handle(7, echo)
	mark := []byte("needle in the frame")
	caller, listener := net.Pipe()
	served := make(chan struct{})
	go func() {
		defer close(served)
		p.b.serveCalls(listener, hello{"c", "a", "b", kindCall, versionChecked})
	}()
	if _, err := (damaged{caller, mark}).Write(appendCallFrame(nil, true, 1, 7, mark)); err != nil {
		t.Fatal(err)
	}
	if frame, err := readFrame(bufio.NewReader(caller), nil); err == nil {
		t.Errorf("a damaged request was answered: %q", frame)
	}
	<-served

	here, there := net.Pipe()
	p.a.mu.Lock()
	p.a.startCaller("b", here, versionChecked)
	p.a.mu.Unlock()
	go p.b.serveCalls(damaged{there, mark}, hello{"c", "a", "b", kindCall, versionChecked})
	if got, err := p.a.Call(t.Context(), "b", 7, mark); !errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("a damaged answer: got %q, %v, want ErrOutcomeUnknown", got, err)
	}
}
