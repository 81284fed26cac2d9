package edge

import (
	"io"
	"net"
	"testing"
)

func TestWhatALoopLeftUnsentGoesFirst(t *testing.T) {
	here, there := net.Pipe()
	s := &sealed{conn: here, out: []byte("first ")}
	go func() {
		_, _ = s.Write([]byte("then"))
		_ = s.Close()
	}()
	if got, err := io.ReadAll(there); err != nil || string(got) != "first then" {
		t.Errorf("got %q and %v", got, err)
	}
}

func TestAClientThatReadsNoneOfTheAnswersOfTLSIsCut(t *testing.T) {
	s := &sealed{poll: &epoll{}, out: make([]byte, sealBytes)}
	answer := make([]byte, 32)
	for range 2 * sealBytes / len(answer) {
		if _, err := s.Write(answer); err != nil {
			if err != errUnsent || len(s.poll.sealed) < sealBytes/2 {
				t.Errorf("got %v with %d bytes, want %v later", err, len(s.poll.sealed), errUnsent)
			}
			return
		}
	}
	t.Error("got no end")
}
