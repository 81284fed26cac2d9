package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/pushd/pushd/protocol"
)

var (
	errFrameTooBig = errors.New("a WebSocket message is too big")
	errTokenEnded  = errors.New("the server closed the connection as its token has ended")
)

// socket is a WebSocket that speaks pushd.v1.json.
type socket struct {
	conn   net.Conn
	reader *wsutil.Reader
	text   []byte       // the frame that was read last
	lines  []byte       // what is left of it
	out    bytes.Buffer // the frame that is sent
	idle   *time.Timer  // pings a server that is quiet
	token  string       // that it was opened or refreshed with last
}

// open opens a socket, and asks for another token if the server does.
func (c *Client) open(ctx context.Context, server string) (*socket, error) {
	k, used, err := c.openOnce(ctx, server)
	if protocol.CodeOf(err).Status() == http.StatusUnauthorized && c.tokens.drop(used) {
		k, _, err = c.openOnce(ctx, server)
	}
	return k, err
}

func (c *Client) openOnce(ctx context.Context, server string) (_ *socket, token string, err error) {
	h := http.Header{}
	if token, err = c.authorize(ctx, h); err != nil {
		return nil, "", err
	}
	var refusal error
	d := ws.Dialer{
		Timeout: answerTimeout, NetDial: c.dial, TLSConfig: c.tls, Protocols: []string{protocol.SubprotocolJSON}, Header: ws.HandshakeHeaderHTTP(h),
		OnStatusError: func(status int, reason []byte, body io.Reader) {
			resp, err := http.ReadResponse(bufio.NewReader(body), nil)
			if err == nil {
				refusal = problem(resp)
			}
		},
	}
	conn, buffered, _, err := d.Dial(ctx, "ws"+strings.TrimPrefix(server, "http")+"/v1/events")
	if refusal != nil {
		err = refusal
	}
	if err == nil || refusal != nil {
		c.reached.Store(true)
	}
	if err != nil {
		return nil, token, err
	}
	var early []byte
	if buffered != nil {
		early = leftover(buffered)
	}
	k := newSocket(conn, early)
	k.token = token
	return k, token, nil
}

// newSocket reads what came early, and then the connection.
func newSocket(conn net.Conn, early []byte) *socket {
	k := &socket{conn: conn, idle: time.AfterFunc(quiet, func() { _, _ = conn.Write(ping()) })} // an error shows to the reader
	k.reader = &wsutil.Reader{
		Source: bufio.NewReaderSize(io.MultiReader(bytes.NewReader(early), hearing{k}), readBuffer), State: ws.StateClientSide, MaxFrameSize: maxFrame,
		OnIntermediate: wsutil.ControlFrameHandler(conn, ws.StateClientSide),
	}
	return k
}

// hearing reads a socket's connection. A server that is quiet is pinged, and
// dead if it does not answer.
type hearing struct{ *socket }

func (h hearing) Read(p []byte) (int, error) {
	_ = h.conn.SetReadDeadline(time.Now().Add(silence))
	h.idle.Reset(quiet)
	return h.conn.Read(p)
}

// ping is a ping frame, to be sent in one write.
func ping() []byte { return ws.MustCompileFrame(ws.MaskFrame(ws.NewPingFrame(nil))) }

// line reads the next line that the server sent. It is valid until the next call.
func (k *socket) line() ([]byte, error) {
	for len(k.lines) == 0 {
		if err := k.frame(); err != nil {
			return nil, err
		}
	}
	line, rest, _ := bytes.Cut(k.lines, []byte{'\n'})
	k.lines = rest
	return line, nil
}

// push reads the next line and decodes it.
func (k *socket) push() (protocol.Push, error) {
	line, err := k.line()
	if err != nil {
		return protocol.Push{}, err
	}
	return parsePush(line)
}

func parsePush(line []byte) (p protocol.Push, err error) {
	if len(line) == 0 {
		return p, nil
	}
	if err := json.Unmarshal(line, &p); err != nil {
		return p, fmt.Errorf("read a push: %w", err)
	}
	return p, nil
}

// frame reads the next data message; pings are answered on the way.
func (k *socket) frame() error {
	for {
		head, err := k.reader.NextFrame()
		if err != nil {
			return err
		}
		if head.OpCode.IsControl() {
			if err := wsutil.ControlFrameHandler(k.conn, ws.StateClientSide)(head, k.reader); err != nil {
				return closed(err)
			}
			continue
		}
		k.lines, err = k.payload()
		return closed(err) // a control frame may stand between a message's parts
	}
}

// payload reads a message into the room of the last one.
func (k *socket) payload() ([]byte, error) {
	if cap(k.text) > readBuffer {
		k.text = nil // one big message must not hold memory for the connection's life
	}
	k.text = k.text[:0]
	for len(k.text) <= maxFrame {
		k.text = slices.Grow(k.text, 512)
		n, err := k.reader.Read(k.text[len(k.text):cap(k.text)])
		k.text = k.text[:len(k.text)+n]
		if err == io.EOF {
			return k.text, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, errFrameTooBig
}

// closed gives the server's close codes their meaning: 3500 to 3999 say not to
// come back.
func closed(err error) error {
	c, ok := errors.AsType[wsutil.ClosedError](err)
	switch {
	case !ok:
		return err
	case protocol.CloseCode(c.Code) == protocol.CloseTokenExpired:
		return errTokenEnded
	case c.Code >= 3500 && c.Code < 4000:
		return closeReason(protocol.CloseCode(c.Code)).Errorf("the server closed with %d: %s", c.Code, c.Reason)
	case protocol.CloseCode(c.Code) == protocol.CloseDrain:
		var d protocol.Drain
		_ = json.Unmarshal([]byte(c.Reason), &d) // without a reason it is at once
		return moveAfter(d)
	}
	return err
}

func closeReason(c protocol.CloseCode) protocol.Code {
	switch c {
	case protocol.CloseBadToken:
		return protocol.BadToken
	case protocol.CloseForbidden:
		return protocol.Forbidden
	}
	return protocol.BadRequest
}

// send writes one message, in one write: the answer to a ping, which the
// reading goroutine writes, must not come between its header and its payload.
func (k *socket) send(text []byte) error {
	k.out.Reset()
	if err := wsutil.WriteClientText(&k.out, text); err != nil {
		return err
	}
	_ = k.conn.SetWriteDeadline(time.Now().Add(sendTimeout))
	_, err := k.conn.Write(k.out.Bytes())
	return err
}

func (k *socket) close() {
	k.idle.Stop()
	_ = k.conn.Close()
}

// follower is a socket with one subscription.
type follower struct {
	*socket
	tokens *tokens
	failed error // behind what the last batch gave
}

func (s *Subscription) openWebSocket(ctx context.Context, server string) (source, error) {
	k, err := s.client.open(ctx, server)
	if err != nil {
		return nil, err
	}
	id := uint64(1)
	subscribe := &protocol.SubscribeCommand{Topics: s.options.Topics, After: s.cursor, OnGap: s.options.OnGap}
	s.options.Presence.command(subscribe)
	command, err := json.Marshal(protocol.Command{ID: &id, Subscribe: subscribe})
	if err == nil {
		err = k.send(command)
	}
	if err != nil {
		k.close()
		return nil, err
	}
	return &follower{socket: k, tokens: &s.client.tokens}, nil
}

// next gives all that the next frame brings.
func (f *follower) next(ctx context.Context) (batch, error) {
	defer context.AfterFunc(ctx, f.close)()
	var all batch
	for f.failed == nil {
		p, err := f.push()
		var b batch
		switch {
		case err != nil:
		case p.Token != nil:
			err = f.refresh(ctx, f.tokens)
		default:
			b, err = pushBatch(&p)
		}
		if errors.Is(err, errTokenEnded) {
			f.tokens.drop(f.token)
		}
		f.failed = err
		all.add(b)
		if len(f.lines) == 0 {
			break
		}
	}
	if len(all.deliveries) > 0 {
		return all, nil
	}
	return all, f.failed
}

// pushBatch is what a push means to a reader.
func pushBatch(p *protocol.Push) (b batch, err error) {
	switch {
	case p.Error != nil:
		return b, p.Error.Err()
	case p.Drain != nil:
		return b, moveAfter(*p.Drain)
	case p.Event != nil:
		b.cursor = p.Event.Cursor
		b.deliveries = []Delivery{{Event: p.Event}}
	case p.Presence != nil:
		b.deliveries = []Delivery{{Presence: p.Presence}}
	case p.Gap != nil:
		b.deliveries = []Delivery{{Gap: p.Gap}}
	case p.Subscribed != nil:
		b.cursor = p.Subscribed.Cursor
		for i := range p.Subscribed.Gaps {
			b.deliveries = append(b.deliveries, Delivery{Gap: &p.Subscribed.Gaps[i]})
		}
		b.deliveries = append(b.deliveries, firstMembers(p.Subscribed.Presence)...)
	}
	return b, nil
}

// leftover is what the handshake read too much.
func leftover(r *bufio.Reader) []byte {
	b, _ := r.Peek(r.Buffered())
	return b
}
