package peers

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"
)

// kind is how a reader reads.
type kind string

const (
	webSocket kind = "WebSocket"
	sse       kind = "SSE"
	longPoll  kind = "long poll"
	shortPoll kind = "short poll"
)

// peer is a server that is compared. A new process of it is started for what
// needs one; in between it idles.
type peer struct {
	name  string
	words string // what it is, and what its publish means
	start func(b *testing.B) *server
}

// server is a running peer, and how it is spoken to.
type server struct {
	*process
	name  string
	addr  string // its clients'
	kinds []kind // beside WebSockets

	// open is what a reader of a topic sends first. after is a place that place or
	// where gave, or empty for what is new.
	open func(k kind, topic int, after string) []byte
	// hello is what it sends when its WebSocket is open; nil: nothing.
	hello func(topic int, after string) []byte
	// welcome stands in what follows the head when the reader is subscribed;
	// empty: the head is enough.
	welcome map[kind]string
	place   func(head []byte) string        // where a poll's answer ends
	where   func(topic int) (string, error) // where a topic ends

	publish publishing
	unkept  publishing // of events that are not stored, where the server has a choice
	forget  func()     // makes it close its connections, where it would not notice; or nil
}

func (s *server) serves(k kind) bool { return k == webSocket || slices.Contains(s.kinds, k) }

// publishing is how a server is published to, over one connection.
type publishing struct {
	addr    string
	open    []byte
	opened  string // stands in the answer to open, if there is one; headEnd: of a WebSocket
	refused string // stands in an answer that is a refusal
	// appendAll appends one write that publishes events in their order.
	appendAll func(dst []byte, topics []int, events [][]byte) []byte
}

const headEnd = "\r\n\r\n"

const upgradeHeaders = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// upgrade is a request for a WebSocket.
func upgrade(target, protocol string) []byte {
	head := "GET " + target + " HTTP/1.1\r\nHost: localhost\r\n" + upgradeHeaders
	if protocol != "" {
		head += "Sec-WebSocket-Protocol: " + protocol + "\r\n"
	}
	return []byte(head + "\r\n")
}

// get is one request outside of any measurement.
func get(url, accept string) ([]byte, http.Header, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Accept", accept)
	resp, err := httpClient.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	body, err := io.ReadAll(resp.Body)
	return body, resp.Header, err
}
