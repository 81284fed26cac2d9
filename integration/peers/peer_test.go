package peers

import "testing"

// kind is how a reader reads.
type kind string

const (
	webSocket kind = "WebSocket"
	sse       kind = "SSE"
	longPoll  kind = "long poll"
)

// peer is a server that is compared. A new process of it is started for what
// needs one; in between it idles.
type peer struct {
	name  string
	start func(b *testing.B) *server
}

// server is a running peer, and how it is spoken to.
type server struct {
	*process
	name string
	addr string // its clients'

	// open is what a reader of a topic sends first. after is a place that mark
	// gave, or empty for what is new.
	open func(k kind, topic int, after string) []byte
	// hello is what it sends when its WebSocket is open, and welcome stands in the
	// answer to that, or in what follows the head. Nil and empty: the head is enough.
	hello   func(topic int, after string) []byte
	welcome string

	publish publishing
	forget  func() // makes it close its connections, where it would not notice; or nil
}

// publishing is how a server is published to, over one connection.
type publishing struct {
	addr    string
	open    []byte
	opened  string // stands in the answer to open, if there is one
	refused string // stands in an answer that is a refusal
	// appendAll appends one write that publishes events in their order.
	appendAll func(dst []byte, topics []int, events [][]byte) []byte
}

// upgrade is a request for a WebSocket.
func upgrade(target, protocol string) []byte {
	head := "GET " + target + " HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	if protocol != "" {
		head += "Sec-WebSocket-Protocol: " + protocol + "\r\n"
	}
	return []byte(head + "\r\n")
}
