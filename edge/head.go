package edge

import (
	"bufio"
	"bytes"
	"errors"
	"net/http"
	"strings"
	"sync"
)

// errNotOurs says that a request is net/http's to answer.
var errNotOurs = errors.New("not a request for the loops")

// useHead takes a request's head off b once it is complete. What is no read of
// events goes to net/http, with the bytes that have come.
func (l *loop) useHead(c *conn, b []byte) (n int) {
	if !mayBeOurs(b) {
		l.handOff(c, b)
		return 0
	}
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) > maxHeaderBytes {
			l.handOff(c, b) // which knows how to refuse it
		}
		return 0
	}
	n = end + 4
	r, err := parseHead(b[:n])
	if err != nil || !l.server.isRead(r) {
		l.handOff(c, b)
		return 0
	}
	l.request(c, r)
	return n
}

// mayBeOurs says whether a request that begins with b may be a read of events:
// everything else is not kept waiting for its head's end.
func mayBeOurs(b []byte) bool {
	const get, events, topics = "GET ", "/v1/events", "/v1/topics/"
	if len(b) < len(get) {
		return strings.HasPrefix(get, string(b))
	}
	if string(b[:len(get)]) != get {
		return false
	}
	target := b[len(get):]
	for _, path := range []string{events, topics} {
		if n := min(len(target), len(path)); string(target[:n]) == path[:n] {
			return true
		}
	}
	return false
}

// headReader parses a head; its buffer is the pool's.
type headReader struct {
	source bytes.Reader
	in     *bufio.Reader
}

var headReaders = sync.Pool{New: func() any { return &headReader{in: bufio.NewReaderSize(nil, 4<<10)} }}

// parseHead reads a whole head, with errNotOurs for what net/http shall answer:
// whatever it would refuse, or has a body.
func parseHead(head []byte) (*http.Request, error) {
	h := headReaders.Get().(*headReader)
	defer func() {
		h.source.Reset(nil)
		headReaders.Put(h)
	}()
	h.source.Reset(head)
	h.in.Reset(&h.source)
	r, err := http.ReadRequest(h.in)
	if err != nil {
		return nil, errNotOurs
	}
	body := r.ContentLength != 0 || len(r.TransferEncoding) > 0 || r.Header.Get("Expect") != ""
	if body || r.Host == "" || !r.ProtoAtLeast(1, 1) || !forLoops(r) {
		return nil, errNotOurs
	}
	return r, nil
}

// response is an answer of a loop, as handlers know it.
type response struct {
	header http.Header
	status int
	body   []byte
}

func (w *response) Header() http.Header { return w.header }

func (w *response) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *response) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	w.body = append(w.body, b...)
	return len(b), nil
}

// append writes the answer.
func (w *response) append(dst []byte) []byte {
	dst = appendStatus(dst, w.status)
	var b bytes.Buffer
	_ = w.header.Write(&b)
	dst = append(dst, b.Bytes()...)
	dst = append(dst, "\r\n"...)
	return append(dst, w.body...)
}

// request answers a read of events.
func (l *loop) request(c *conn, r *http.Request) {
	w := &response{header: http.Header{"X-Content-Type-Options": {"nosniff"}}}
	fail := func(err error) { l.refuse(c, w, r, err) }
	err := l.server.checkRequest(w, r)
	if err == nil {
		err = l.server.ask(c.from, r)
	}
	if err == nil {
		err = l.identified(c, w, r, fail)
	}
	if err != nil {
		fail(err)
	}
}

// refuse answers with an error, behind which the client may ask again.
func (l *loop) refuse(c *conn, w *response, r *http.Request, err error) {
	l.server.refuse(w, r, err)
	l.finish(c, w, r.Close)
}
