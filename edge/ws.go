package edge

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/protocol"
)

// wantsUpgrade says whether the request opens a WebSocket.
func wantsUpgrade(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// serveSocket upgrades and serves a WebSocket. Whatever is wrong with the
// request is answered before the upgrade.
func (s *Server) serveSocket(w http.ResponseWriter, r *http.Request) error {
	protocolName, err := handshake(w, r)
	if err != nil {
		return err
	}
	q, err := parseRead(r)
	if err != nil {
		return err
	}
	if len(q.selectors) == 0 && protocolName == "" {
		return protocol.BadTopic.Errorf("no topic named; give at least one topic=…, or offer the subprotocol %s and subscribe later", protocol.SubprotocolJSON)
	}
	leave, err := s.admit()
	if err != nil {
		return err
	}
	defer leave()
	gone, err := s.admitSocket()
	if err != nil {
		return err
	}
	defer gone()
	c := &socket{server: s, wake: make(chan struct{}, 1)}
	c.session = newSession(s, protocolName != "", signaler(c.wake))
	c.session.member = q.values.Get("member")
	defer c.session.close()
	if err := c.begin(q); err != nil {
		return err
	}
	upgrader := ws.HTTPUpgrader{Timeout: closeTimeout}
	if protocolName != "" {
		upgrader.Protocol = func(p string) bool { return p == protocolName }
	}
	conn, rw, _, err := upgrader.Upgrade(r, w)
	if err != nil {
		if conn != nil {
			_ = conn.Close()
		}
		return nil // hijacked: there is nothing left to answer on
	}
	c.conn, c.in = conn, rw.Reader
	c.run()
	return nil
}

// handshake checks what RFC 6455 §4.2.1 asks for and picks the subprotocol, ""
// if none was offered.
func handshake(w http.ResponseWriter, r *http.Request) (string, error) {
	h := r.Header
	switch {
	case r.Method != http.MethodGet || r.ProtoMajor != 1 || r.ProtoMinor < 1:
		return "", protocol.BadHandshake.Errorf("a WebSocket is opened by GET over HTTP/1.1")
	case !hasToken(h.Values("Connection"), "upgrade"):
		return "", protocol.BadHandshake.Errorf("the header Connection: Upgrade is missing; a proxy may have dropped it")
	case h.Get("Sec-WebSocket-Version") != "13":
		w.Header().Set("Sec-WebSocket-Version", "13")
		return "", protocol.BadHandshake.Errorf("Sec-WebSocket-Version must be 13")
	case len(h.Get("Sec-WebSocket-Key")) != 24:
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
	tokens := true
	for p := range strings.SplitSeq(offered, ",") {
		p = strings.TrimSpace(p)
		if p == protocol.SubprotocolJSON {
			return p, nil
		}
		tokens = tokens && strings.HasPrefix(p, protocol.TokenSubprotocol)
	}
	if tokens {
		return "", protocol.BadSubprotocol.Errorf("a token was offered alone; offer %s beside it", protocol.SubprotocolJSON)
	}
	return "", protocol.BadSubprotocol.Errorf("none of the offered subprotocols is spoken here; offer %s, or none for plain payloads", protocol.SubprotocolJSON)
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

// socket is a WebSocket's connection: this goroutine reads, another writes.
type socket struct {
	server  *Server
	session *session
	conn    net.Conn
	in      *bufio.Reader
	wake    chan struct{}

	mu       sync.Mutex // guards awaiting, and the read deadline with it
	awaiting bool       // a ping is unanswered
	closing  bool       // the read deadline is that of the close
}

// begin subscribes to the URL's topics: a first subscribe, with id 0.
func (c *socket) begin(q *query) error {
	if len(q.selectors) == 0 {
		return nil
	}
	if len(q.selectors) == 1 && !q.selectors[0].Pattern() {
		c.session.plain = q.selectors[0].String()
	}
	return c.session.follow(new(uint64), q)
}

func (c *socket) run() {
	defer c.conn.Close()
	var writer sync.WaitGroup
	writer.Go(func() {
		defer c.guard()
		c.write()
	})
	defer context.AfterFunc(c.server.draining, func() {
		c.session.drain()
		c.cutSoon()
	})()
	defer context.AfterFunc(c.server.running, func() { _ = c.conn.Close() })()
	code, reason := c.read()
	c.session.end(code, reason)
	c.cutSoon()
	writer.Wait()
}

// guard makes a panic of the writing goroutine cost this connection only.
func (c *socket) guard() {
	if reason := recover(); reason != nil {
		c.server.log.Error("websocket writer panicked", "err", fmt.Sprint(reason), "stack", string(debug.Stack()))
		c.session.end(0, "")
		_ = c.conn.Close()
	}
}

// cutSoon bounds what is left to write.
func (c *socket) cutSoon() { _ = c.conn.SetWriteDeadline(time.Now().Add(closeTimeout)) }

// read hands messages to the session until the client closes, breaks the
// protocol, or is gone. Behind the session's end it only waits for the close.
func (c *socket) read() (code protocol.CloseCode, reason string) {
	m := messages{in: c.in, limit: c.server.options.MaxEventBytes*4/3 + maxCommandBytes}
	if !c.session.isJSON() {
		m.limit = c.server.options.MaxEventBytes
	}
	for {
		op, data, err := m.next()
		if err != nil {
			return c.whyReadEnded(err)
		}
		c.heard()
		switch op {
		case ws.OpClose:
			c.session.goodbye(data)
			return closeEcho(data)
		case ws.OpPing:
			c.session.pong(data)
		case ws.OpText, ws.OpBinary:
			if !c.session.over() {
				c.session.message(op == ws.OpText, data)
			}
		}
	}
}

func (c *socket) whyReadEnded(err error) (protocol.CloseCode, string) {
	if e, ok := err.(*frameError); ok {
		return e.code, e.reason
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if t, ok := err.(net.Error); ok && t.Timeout() && c.awaiting {
		return protocol.CloseNoPong, "no answer to a ping"
	}
	return 0, "" // gone
}

// heard notes a sign of life.
func (c *socket) heard() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.awaiting && !c.closing {
		c.awaiting = false
		_ = c.conn.SetReadDeadline(time.Time{})
	}
}

// write takes what the session has and writes it, in one piece each time.
func (c *socket) write() {
	ping := time.NewTicker(pingInterval)
	defer ping.Stop()
	pinged := false
	for {
		buf := takeBuffer()
		var more bool
		var end *ending
		buf.b, more, end = c.session.fill(buf.b)
		if pinged && end == nil {
			buf.b = c.ping(buf.b)
		}
		ok := len(buf.b) == 0
		if !ok {
			_, err := c.conn.Write(buf.b)
			ok = err == nil
		}
		buf.put()
		if !ok || end != nil {
			c.session.end(0, "") // a no-op unless the write failed
			c.giveUp(ok)
			return
		}
		c.expectPong()
		if pinged = false; more {
			continue
		}
		select {
		case <-c.wake:
		case <-ping.C:
			pinged = true
		}
	}
}

func (c *socket) ping(dst []byte) []byte {
	c.mu.Lock()
	c.awaiting = true
	c.mu.Unlock()
	return appendControl(dst, ws.OpPing, nil)
}

// expectPong gives the client its time to answer from the last write that went
// through: a slow reader has what came before the ping to read first.
func (c *socket) expectPong() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.awaiting && !c.closing {
		_ = c.conn.SetReadDeadline(time.Now().Add(pongTimeout))
	}
}

// giveUp ends the reading: after the close frame, once the client has answered
// it or had time to; after a failed write, at once.
func (c *socket) giveUp(answered bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = true
	wait := closeTimeout
	if !answered {
		wait = 0
	}
	_ = c.conn.SetReadDeadline(time.Now().Add(wait))
}
