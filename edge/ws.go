package edge

import (
	"crypto/sha1"
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/protocol"
)

// wantsUpgrade says whether the request opens a WebSocket.
func wantsUpgrade(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// handshake checks what RFC 6455 §4.2.1 asks for and picks the subprotocol, ""
// if none was offered.
func handshake(w http.ResponseWriter, r *http.Request) (string, error) {
	h := r.Header
	key, err := base64.StdEncoding.DecodeString(h.Get("Sec-WebSocket-Key"))
	switch {
	case r.Method != http.MethodGet || r.ProtoMajor != 1 || r.ProtoMinor < 1:
		return "", protocol.BadHandshake.Errorf("a WebSocket is opened by GET over HTTP/1.1")
	case !hasToken(h.Values("Connection"), "upgrade"):
		return "", protocol.BadHandshake.Errorf("the header Connection: Upgrade is missing; a proxy may have dropped it")
	case h.Get("Sec-WebSocket-Version") != "13":
		w.Header().Set("Sec-WebSocket-Version", "13")
		return "", protocol.BadHandshake.Errorf("Sec-WebSocket-Version must be 13")
	case err != nil || len(key) != 16:
		return "", protocol.BadHandshake.Errorf("Sec-WebSocket-Key must be 16 bytes in base64")
	}
	return pickSubprotocol(h.Values("Sec-WebSocket-Protocol"))
}

// pickSubprotocol takes the offered one that the node likes best. A token is
// never echoed, so that a client which offers nothing else would fail.
func pickSubprotocol(values []string) (string, error) {
	offered := strings.Join(values, ",")
	if strings.TrimSpace(offered) == "" {
		return "", nil
	}
	tokens, binary := true, false
	for p := range strings.SplitSeq(offered, ",") {
		p = strings.TrimSpace(p)
		if p == protocol.SubprotocolJSON {
			return p, nil
		}
		binary = binary || p == protocol.SubprotocolBinary
		tokens = tokens && strings.HasPrefix(p, protocol.TokenSubprotocol)
	}
	if binary {
		return protocol.SubprotocolBinary, nil
	}
	if tokens {
		return "", protocol.BadSubprotocol.Errorf("a token was offered alone; offer %s beside it", protocol.SubprotocolJSON)
	}
	return "", protocol.BadSubprotocol.Errorf("none of the offered subprotocols is spoken here; offer %s or %s, or none for plain payloads", protocol.SubprotocolJSON, protocol.SubprotocolBinary)
}

func hasToken(values []string, token string) bool {
	for _, v := range values {
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// appendUpgrade accepts a handshake (RFC 6455 §4.2.2).
func appendUpgrade(dst []byte, h http.Header, subprotocol string, window windowBits) []byte {
	sum := sha1.Sum([]byte(h.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	dst = append(dst, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	dst = base64.StdEncoding.AppendEncode(dst, sum[:])
	if subprotocol != "" {
		dst = append(append(dst, "\r\nSec-WebSocket-Protocol: "...), subprotocol...)
	}
	return append(window.appendExtension(dst), "\r\n\r\n"...)
}

// upgrade opens a WebSocket. Whatever is wrong with the request is answered
// before the upgrade: by an error, or where that takes time, by fail.
func (l *loop) upgrade(c *conn, w http.ResponseWriter, r *http.Request, fail func(error)) error {
	name, err := handshake(w, r)
	if err != nil {
		return err
	}
	q, err := parseRead(r)
	if err != nil {
		return err
	}
	if len(q.selectors) == 0 && name == "" {
		return protocol.BadTopic.Errorf("no topic named; give at least one topic=…, or offer the subprotocol %s and subscribe later", protocol.SubprotocolJSON)
	}
	if err := c.who.permit(q, protocol.StartLatest, true); err != nil {
		return err
	}
	if err := l.admit(c); err != nil {
		return err
	}
	if name := q.values.Get("member"); name != "" {
		c.named = &name
	}
	c.form = formPlain
	switch name {
	case protocol.SubprotocolJSON:
		c.form = formJSON
	case protocol.SubprotocolBinary:
		c.form = formBinary
	}
	if l.server.options.Deflate {
		c.window = pickDeflate(r.Header.Values("Sec-WebSocket-Extensions"))
	}
	accepted := appendUpgrade(nil, r.Header, name, c.window)
	if len(q.selectors) == 0 {
		l.openSocket(c, accepted)
		return nil
	}
	l.whenSubscribed(c, q, new(uint64), func(answer []byte, err error) {
		if err != nil {
			fail(err)
			return
		}
		l.openSocket(c, append(accepted, answer...))
	})
	return nil
}

// whenSubscribed subscribes a connection whose request waits for it.
func (l *loop) whenSubscribed(c *conn, q *query, number *uint64, done func(answer []byte, err error)) {
	inline, finished := true, false
	l.subscribe(c, q, number, func(answer []byte, err error) {
		finished = true
		done(answer, err)
		if !inline {
			l.unpause(c)
		}
	})
	if inline = false; !finished {
		l.pause(c)
		l.after(c, answerTimeout)
	}
}

// admit takes one of the slots for readers, until the connection ends.
func (l *loop) admit(c *conn) error {
	if l.draining || l.server.draining.Err() != nil {
		return errDraining()
	}
	if err := l.server.admit(); err != nil {
		return err
	}
	c.counted = true
	l.readers++
	return nil
}

func (l *loop) openSocket(c *conn, accepted []byte) {
	c.phase = phaseSocket
	l.send(c, accepted)
	if c.closed() {
		return
	}
	l.after(c, pingInterval)
	if l.draining {
		l.drainReader(c)
	}
}

// useFrame takes a frame off b.
func (l *loop) useFrame(c *conn, b []byte) (n int) {
	var under *assembly
	if c.session != nil {
		under = &c.session.under
	}
	var f frame
	err := l.checkFrame(b)
	if err == nil {
		f, n, err = takeFrame(b, under, l.messageLimit(c), c.window > 0)
	}
	if err == nil && n > 0 {
		l.heard(c)
		err = l.frame(c, f)
	}
	if err != nil {
		if err == errTooBig || err == errInflatedTooBig {
			l.server.reached.add(boundMessage)
		}
		l.fail(c, err)
		return len(b)
	}
	return n
}

// heard notes a sign of life, which answers a ping.
func (l *loop) heard(c *conn) {
	if c.awaiting {
		c.awaiting = false
		l.rearm(c)
	}
}

// fail ends a connection whose client breaks the protocol. With our close frame
// sent already it may be cut.
func (l *loop) fail(c *conn, err error) {
	if c.phase != phaseSocket {
		l.close(c)
		return
	}
	e := err.(*frameError)
	l.closeSocket(c, e.code, e.reason)
}

// frame deals with one frame.
func (l *loop) frame(c *conn, f frame) error {
	switch {
	case f.OpCode == ws.OpClose:
		c.goodbye = len(f.payload) == 0 || isNormal(f.payload)
		if c.phase == phaseSocket {
			code, reason := closeEcho(f.payload)
			l.closeSocket(c, code, reason)
		}
		if !c.closed() {
			l.linger(c) // both have sent their close frames (RFC 6455 §7.1.1)
		}
		return nil
	case c.phase != phaseSocket: // lost on a session that is over
		return nil
	case f.OpCode == ws.OpPing:
		if err := l.mayCommand(c, 1); err != nil {
			return err
		}
		l.send(c, appendControl(nil, ws.OpPong, f.payload))
		return nil
	case f.OpCode == ws.OpPong:
		return nil
	case f.Fin && f.OpCode != ws.OpContinuation:
		return l.message(c, f.OpCode, f.compressed, f.payload)
	}
	return l.fragment(c, f)
}

// isNormal says whether a close frame says that the client is done.
func isNormal(payload []byte) bool {
	code, _ := closeEcho(payload)
	return code == protocol.CloseNormal
}

// fragment keeps a part of a message until the last one has come.
func (l *loop) fragment(c *conn, f frame) error {
	u := &l.session(c).under
	if f.OpCode != ws.OpContinuation {
		u.op, u.compressed, u.fragments, u.data = f.OpCode, f.compressed, 0, u.data[:0]
	}
	u.fragments++
	u.data = append(u.data, f.payload...)
	if !f.Fin {
		return nil
	}
	op, compressed, data := u.op, u.compressed, u.data
	*u = assembly{}
	return l.message(c, op, compressed, data)
}

func (l *loop) message(c *conn, op ws.OpCode, compressed bool, data []byte) error {
	if compressed {
		plain := takeBuffer()
		defer plain.put()
		var err error
		if plain.b, err = appendInflated(plain.b, data, l.messageLimit(c)); err != nil {
			return err
		}
		data = plain.b
	}
	if err := checkText(op, data); err != nil {
		return err
	}
	n := l.session(c)
	if err := l.mayCommand(c, n.count(op != ws.OpText, data)); err != nil {
		return err
	}
	n.message(op == ws.OpText, data)
	return nil
}

// expire does what a connection's time is up for.
func (l *loop) expire(c *conn) {
	switch {
	case c.phase == phasePoll:
		l.endPoll(c)
	case c.phase != phaseSocket && c.phase != phaseStream:
		if c.phase == phaseHead && c.in != nil { // a request has begun, and not come
			l.server.reached.add(boundHandshake)
		}
		l.close(c)
	case c.out != nil:
		if l.tick-c.out.tick >= uint32(l.server.options.Limits.StallTimeout/tickLength) {
			l.server.reached.add(boundStall)
			l.server.metrics.closed(protocol.CloseTooSlow)
			l.close(c) // a close frame would not get through either
			return
		}
		l.rearm(c)
	case c.phase == phaseStream:
		l.beat(c)
	case c.awaiting:
		l.closeSocket(c, protocol.CloseNoPong, "no answer to a ping")
	default:
		c.awaiting = true
		l.send(c, appendControl(nil, ws.OpPing, nil))
		if !c.closed() {
			l.rearm(c)
		}
	}
}

// rearm sets what is due next of an open WebSocket, as its backlog comes or
// goes: what stands before a ping has to be read first.
func (l *loop) rearm(c *conn) {
	switch {
	case c.phase != phaseSocket && c.phase != phaseStream:
	case c.out != nil:
		l.after(c, l.server.options.Limits.StallTimeout)
	case c.phase == phaseStream:
		l.after(c, heartbeat)
	case c.awaiting:
		l.after(c, pongTimeout)
	default:
		l.after(c, pingInterval)
	}
}
