package peers

import (
	"bytes"
	"strconv"
	"time"
)

// stage is what a connection waits for.
type stage uint8

const (
	awaitsHead    stage = iota // of an HTTP response
	awaitsWelcome              // the answer to hello
	awaitsEvents
	awaitsBody     // of a long poll
	publisherOpens // the answer to a publisher's first words
	publishes
)

// reader is one connection of a crowd.
type reader struct {
	fd      int
	topic   int
	next    uint64 // the number of the event that must come next
	stage   stage
	chunked bool
	length  int    // of the body
	after   string // where the reader stands
	tail    []byte // of what came, not understood yet
	part    []byte // a record whose end has not come
}

// take takes what a connection has read.
func (c *crowd) take(r *reader, b []byte) {
	if len(r.tail) > 0 {
		r.tail = append(r.tail, b...)
		b = r.tail
	}
	for len(b) > 0 {
		n := c.step(r, b)
		if n == 0 {
			break
		}
		b = b[n:]
	}
	if len(b) == 0 {
		r.tail = nil
		return
	}
	r.tail = append(r.tail[:0], b...)
}

// step understands what b begins with, and says how much that is; 0 asks for more.
func (c *crowd) step(r *reader, b []byte) int {
	switch {
	case r.stage == publisherOpens && bytes.Contains(b, []byte(c.publish.opened)):
		r.stage = publishes
		return len(b)
	case r.stage == publisherOpens:
		return 0
	case r.stage == publishes && c.publish.opened == headEnd:
		return c.frame(r, b)
	case r.stage == publishes:
		c.checkRefused(b)
		return len(b)
	case r.stage == awaitsHead:
		return c.head(r, b)
	case r.stage == awaitsBody:
		return c.body(r, b)
	case c.kind == webSocket:
		return c.frame(r, b)
	case r.chunked:
		return c.chunk(r, b)
	}
	c.text(r, b)
	return len(b)
}

// head takes a response's status line and headers.
func (c *crowd) head(r *reader, b []byte) int {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		return 0
	}
	head := b[:end]
	if status := field(head, "HTTP/1.1 "); !bytes.HasPrefix(status, []byte(statuses[c.kind])) {
		c.b.Fatalf("%s: a reader got %.500s", c.server.name, b)
	}
	switch c.kind {
	case shortPoll:
		c.got++
		c.write(r.fd, c.again)
		return end + 4
	case longPoll:
		r.stage = awaitsBody
		r.length, _ = strconv.Atoi(string(field(head, "Content-Length: ")))
		r.after = c.server.place(head)
		return end + 4
	case sse:
		r.chunked = bytes.Contains(head, []byte("chunked"))
	case webSocket:
		if c.server.hello != nil {
			c.write(r.fd, c.server.hello(r.topic, r.after))
		}
	}
	if r.stage = awaitsWelcome; c.server.welcome[c.kind] == "" {
		c.welcome(r)
	}
	return end + 4
}

// statuses are those of what is wanted. Short polls ask for what is not there.
var statuses = map[kind]string{webSocket: "101", sse: "200", longPoll: "200", shortPoll: "304"}

// field is what stands behind name in its line.
func field(head []byte, name string) []byte {
	_, value, _ := bytes.Cut(head, []byte(name))
	value, _, _ = bytes.Cut(value, []byte("\r\n"))
	return value
}

func (c *crowd) welcome(r *reader) {
	r.stage = awaitsEvents
	c.pending--
}

// frame takes a WebSocket's.
func (c *crowd) frame(r *reader, b []byte) int {
	opcode, payload, n := nextFrame(b)
	switch {
	case n == 0:
		return 0
	case opcode == opPing:
		c.write(r.fd, appendFrame(nil, opPong, payload))
		return n
	case opcode == opClose:
		c.b.Fatalf("%s closed a WebSocket: %q", c.server.name, payload)
	case r == &c.pub:
		c.checkRefused(payload)
		return n
	}
	c.text(r, payload)
	return n
}

// chunk takes one of HTTP's chunked coding.
func (c *crowd) chunk(r *reader, b []byte) int {
	line, _, ok := bytes.Cut(b, []byte("\r\n"))
	if !ok {
		return 0
	}
	size, err := strconv.ParseUint(string(line), 16, 32)
	if err != nil {
		c.b.Fatalf("%s: a bad chunk: %.200q", c.server.name, b)
	}
	begin := len(line) + 2
	if end := begin + int(size) + 2; len(b) >= end {
		c.text(r, b[begin:end-2])
		return end
	}
	return 0
}

// body takes a long poll's answer, and polls on.
func (c *crowd) body(r *reader, b []byte) int {
	if len(b) < r.length {
		return 0
	}
	n := r.length
	c.text(r, b[:n])
	r.stage = awaitsHead
	c.write(r.fd, c.server.open(c.kind, r.topic, r.after))
	return n
}

// text looks for events.
func (c *crowd) text(r *reader, b []byte) {
	if r.stage == awaitsWelcome && bytes.Contains(b, []byte(c.server.welcome[c.kind])) {
		c.welcome(r)
	}
	if len(r.part) > 0 {
		b = append(r.part, b...)
		r.part = nil
	}
	now := time.Now().UnixNano()
	for {
		e, rest, ok := nextRecord(b)
		if !ok {
			if len(rest) > 0 {
				r.part = append([]byte(nil), rest...)
			}
			return
		}
		if e.topic != r.topic || e.number != r.next {
			c.b.Fatalf("%s: a reader of topic %d got event %d of topic %d, want %d", c.server.name, r.topic, e.number, e.topic, r.next)
		}
		r.next++
		c.got++
		c.latencies = append(c.latencies, uint32((now-e.at)/1000))
		b = rest
	}
}
