package edge

import (
	"slices"
	"sync"
	"time"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// session is one WebSocket's logic. It knows no socket: messages are handed to
// message, bytes are taken from fill, and signal says that there are some.
// That is all that a connection needs of it, be it a goroutine's or a loop's.
type session struct {
	server   *Server
	encoding encoding
	member   string // who the URL says that this is
	plain    string // plain mode: the one topic that frames are published to; "" if there is none
	signal   func()
	outbox   *outbox

	mu        sync.Mutex // guards what follows
	room      sync.Cond  // replies were taken, or the session has ended
	followers []*follower
	retired   []*follower // to be closed by the goroutine that fills
	several   bool        // pushes say which subscribe they belong to
	replies   []byte      // frames
	ending    *ending
	grace     time.Duration // in which members may come back behind the end
}

// ending is how a session ends.
type ending struct {
	code   protocol.CloseCode // 0: without a code, or the peer is gone
	reason string
}

func newSession(s *Server, json bool, signal func()) *session {
	n := &session{server: s, encoding: plainFrames{}, signal: signal, grace: streamGrace}
	if json {
		n.encoding = jsonFrames{}
	}
	n.room.L = &n.mu
	n.outbox = newOutbox(s, n.published)
	return n
}

// isJSON says whether the session speaks pushd.v1.json.
func (n *session) isJSON() bool { return n.encoding == encoding(jsonFrames{}) }

// reply queues a text frame. It blocks while too many wait, unless the session
// has ended.
func (n *session) reply(payload func(dst []byte) []byte) {
	n.mu.Lock()
	for len(n.replies) > maxReplyBytes && n.ending == nil {
		n.room.Wait()
	}
	n.frame(payload)
	n.mu.Unlock()
	n.signal()
}

// frame appends a reply. n.mu is held.
func (n *session) frame(payload func(dst []byte) []byte) {
	dst, start := openFrame(n.replies)
	n.replies = closeFrame(payload(dst), start, ws.OpText)
}

// refuse answers a command with an error.
func (n *session) refuse(id *uint64, err error) {
	n.reply(func(dst []byte) []byte { return protocol.AppendErrorReply(dst, id, nil, asError(err)) })
}

// end makes the next fill the last one. The first reason counts.
func (n *session) end(code protocol.CloseCode, reason string) {
	n.mu.Lock()
	if n.ending == nil {
		n.ending = &ending{code, reason}
	}
	n.room.Broadcast()
	n.mu.Unlock()
	n.signal()
}

// drain tells the client to go on at another node.
func (n *session) drain() {
	d := comeBack()
	if n.isJSON() {
		n.mu.Lock()
		n.frame(func(dst []byte) []byte { return protocol.AppendDrainPush(dst, d) })
		n.mu.Unlock()
	}
	n.end(protocol.CloseDrain, string(protocol.AppendDrain(nil, d)))
}

// published answers a publish. A plain client has no replies: it is cut, so
// that it knows.
func (n *session) published(id *uint64, r broker.Result) {
	switch {
	case r.Err != nil && !n.isJSON():
		e := asError(r.Err)
		n.end(plainClose(e), e.Detail)
	case r.Err != nil:
		n.refuse(id, r.Err)
	case id != nil:
		n.reply(func(dst []byte) []byte { return protocol.AppendPublished(dst, id, &r.Published) })
	}
}

// plainClose is the close code that stands for a refused publish.
func plainClose(e *protocol.Error) protocol.CloseCode {
	switch {
	case e.Code == protocol.PayloadTooLarge:
		return protocol.CloseTooBig
	case e.Code == protocol.Forbidden:
		return protocol.CloseForbidden
	case e.Code.Status() < 500:
		return protocol.CloseBadRequest
	}
	return protocol.CloseInternal
}

// subscribe adds a reader. answer is queued before anything the reader gets.
func (n *session) subscribe(f *follower, answer func(dst []byte) []byte) {
	n.mu.Lock()
	n.followers = append(n.followers, f)
	n.several = n.several || len(n.followers) > 1
	if answer != nil {
		n.frame(answer)
	}
	n.mu.Unlock()
	n.signal()
}

// unsubscribe takes topics from the readers. What a reader has left, it goes
// on with.
func (n *session) unsubscribe(gone []protocol.Selector, answer func(dst []byte) []byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	found := false
	kept := n.followers[:0:0]
	for _, f := range n.followers {
		left := slices.DeleteFunc(slices.Clone(f.selectors), func(s protocol.Selector) bool { return slices.Contains(gone, s) })
		changed := len(left) < len(f.selectors)
		found = found || changed
		switch {
		case changed && len(left) == 0:
			n.retired = append(n.retired, f)
			f.attendance.end(0)
			continue
		case changed:
			f.selectors, f.narrowed = left, true
			f.attendance.keep(left)
			f.ready.Store(true)
		}
		kept = append(kept, f)
	}
	if !found {
		return protocol.BadRequest.Errorf("none of these topics is subscribed to on this connection; name them as they were subscribed")
	}
	n.followers = kept
	n.frame(answer)
	n.signal()
	return nil
}

// fill appends what is to be written now. more: call again at once. end: the
// session is over, and its last frame is in.
func (n *session) fill(dst []byte) (_ []byte, more bool, end *ending) {
	n.mu.Lock()
	dst = append(dst, n.replies...)
	n.replies = n.replies[:0]
	if cap(n.replies) > readChunk {
		n.replies = nil
	}
	retired, followers, several := n.retired, n.followers, n.several
	n.retired = nil
	end = n.ending
	narrowed := takeNarrowed(followers)
	n.room.Broadcast()
	n.mu.Unlock()
	for _, f := range retired {
		f.reader.Close()
	}
	for f, q := range narrowed {
		n.server.narrow(f, q)
	}
	if end != nil {
		return appendClose(dst, end.code, end.reason), false, end
	}
	for _, f := range followers {
		if !f.ready.Load() {
			continue
		}
		number := f.number
		if !several {
			number = nil
		}
		var again bool
		var err error
		dst, again, err = f.fill(dst, n.encoding, number)
		more = more || again
		if err != nil {
			n.lose(f, err)
		}
	}
	return dst, more, nil
}

// lose ends a subscription that can't go on.
func (n *session) lose(f *follower, err error) {
	f.reader.Close()
	f.attendance.end(0)
	n.mu.Lock()
	n.followers = slices.DeleteFunc(slices.Clone(n.followers), func(o *follower) bool { return o == f })
	if n.isJSON() {
		n.frame(func(dst []byte) []byte { return protocol.AppendErrorReply(dst, nil, f.number, asError(err)) })
	}
	n.mu.Unlock()
	if !n.isJSON() {
		e := asError(err)
		n.end(plainClose(e), e.Detail)
	}
	n.signal()
}

// close forgets the readers. The goroutine that fills has ended.
func (n *session) close() {
	n.mu.Lock()
	all := append(n.followers, n.retired...)
	n.followers, n.retired = nil, nil
	grace := n.grace
	n.mu.Unlock()
	for _, f := range all {
		f.reader.Close()
		f.attendance.end(grace)
	}
	n.outbox.wait()
}

// pong answers a ping frame.
func (n *session) pong(payload []byte) {
	n.mu.Lock()
	for len(n.replies) > maxReplyBytes && n.ending == nil {
		n.room.Wait()
	}
	n.replies = appendControl(n.replies, ws.OpPong, payload)
	n.mu.Unlock()
	n.signal()
}

// over says whether the session has ended: what the client still sends is lost
// on it.
func (n *session) over() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ending != nil
}
