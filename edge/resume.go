package edge

import (
	"crypto/tls"
	"net"
	"sync"
	"time"
)

// probeTimeout bounds resumes.
const probeTimeout = 5 * time.Second

// errLater is what a sealed connection's read gives when its socket has nothing
// more. It is temporary, so that crypto/tls keeps what it has of a record and
// goes on with it at the next read; see resumes.
var errLater net.Error = later{}

type later struct{}

func (later) Error() string   { return "nothing more has come" }
func (later) Timeout() bool   { return false }
func (later) Temporary() bool { return true }

// resumes says whether crypto/tls goes on with a record of which it had a part
// when nothing more had come. Since Go 1.0 it does, if the error is a net.Error
// that calls itself temporary, but it does not promise it; so a listener asks
// before its TLS connections are given to loops.
func resumes(config *tls.Config) bool {
	var knocking sync.WaitGroup
	defer knocking.Wait() // which ends when the pipe does
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	_ = here.SetDeadline(time.Now().Add(probeTimeout))
	_ = there.SetDeadline(time.Now().Add(probeTimeout))
	config = config.Clone()
	config.SessionTicketsDisabled = true // nobody would read them
	source := &trickle{Conn: here}
	server := tls.Server(source, config)
	const word = "whole"
	knocking.Go(func() {
		client := tls.Client(there, &tls.Config{InsecureSkipVerify: true}) // the server is this process
		_, _ = client.Write([]byte(word))
	})
	if err := server.Handshake(); err != nil {
		return false
	}
	source.slow = true
	got := make([]byte, len(word))
	for range 1 << 10 {
		n, err := server.Read(got)
		if err == errLater {
			continue
		}
		return err == nil && string(got[:n]) == word
	}
	return false
}

// trickle gives a byte at a time, and errLater in front of each.
type trickle struct {
	net.Conn
	slow, again bool
}

func (t *trickle) Read(b []byte) (int, error) {
	if !t.slow {
		return t.Conn.Read(b)
	}
	if t.again = !t.again; t.again {
		return 0, errLater
	}
	return t.Conn.Read(b[:1])
}
