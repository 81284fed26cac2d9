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
	"strings"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/pushd/pushd/protocol"
)

const maxFrame = 16 << 20

var errFrameTooBig = errors.New("a WebSocket message is too big")

// socket is a WebSocket that speaks pushd.v1.json.
type socket struct {
	conn   net.Conn
	reader *wsutil.Reader
	lines  [][]byte     // of the frame that was read last
	out    bytes.Buffer // the frame that is sent
}

// dial opens a socket.
func (c *Client) dial(ctx context.Context, server string) (*socket, error) {
	h := http.Header{}
	c.authorize(h)
	var refusal error
	d := ws.Dialer{
		Timeout: answerTimeout, Protocols: []string{protocol.SubprotocolJSON}, Header: ws.HandshakeHeaderHTTP(h),
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
		return nil, err
	}
	k := &socket{conn: conn}
	var source io.Reader = conn
	if buffered != nil {
		source = io.MultiReader(bytes.NewReader(leftover(buffered)), conn)
	}
	k.reader = &wsutil.Reader{
		Source: source, State: ws.StateClientSide, MaxFrameSize: maxFrame,
		OnIntermediate: wsutil.ControlFrameHandler(conn, ws.StateClientSide),
	}
	return k, nil
}

// push reads the next line that the server sent.
func (k *socket) push() (p protocol.Push, err error) {
	for len(k.lines) == 0 {
		frame, err := k.frame()
		if err != nil {
			return p, err
		}
		k.lines = bytes.Split(frame, []byte{'\n'})
	}
	line := k.lines[0]
	k.lines = k.lines[1:]
	if len(line) == 0 {
		return p, nil
	}
	if err := json.Unmarshal(line, &p); err != nil {
		return p, fmt.Errorf("read a push: %w", err)
	}
	return p, nil
}

// frame reads the next data message; pings are answered on the way. A dead
// connection shows by the server's pings staying away.
func (k *socket) frame() ([]byte, error) {
	for {
		_ = k.conn.SetReadDeadline(time.Now().Add(silence))
		head, err := k.reader.NextFrame()
		if err != nil {
			return nil, err
		}
		if head.OpCode.IsControl() {
			if err := wsutil.ControlFrameHandler(k.conn, ws.StateClientSide)(head, k.reader); err != nil {
				return nil, closed(err)
			}
			continue
		}
		b, err := io.ReadAll(io.LimitReader(k.reader, maxFrame+1))
		if err == nil && len(b) > maxFrame {
			err = errFrameTooBig
		}
		return b, closed(err) // a control frame may stand between a message's parts
	}
}

// closed gives the server's close codes their meaning: 3500 to 3999 say not to
// come back.
func closed(err error) error {
	c, ok := errors.AsType[wsutil.ClosedError](err)
	switch {
	case !ok:
		return err
	case c.Code >= 3500 && c.Code < 4000:
		return closeReason(protocol.CloseCode(c.Code)).Errorf("the server closed with %d: %s", c.Code, c.Reason)
	case protocol.CloseCode(c.Code) == protocol.CloseDrain:
		return errMoved
	}
	return err
}

func closeReason(c protocol.CloseCode) protocol.Code {
	switch c {
	case protocol.CloseBadToken:
		return protocol.Unauthorized
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
	_ = k.conn.SetWriteDeadline(time.Now().Add(answerTimeout))
	_, err := k.conn.Write(k.out.Bytes())
	return err
}

func (k *socket) close() { _ = k.conn.Close() }

// follower is a socket with one subscription.
type follower struct{ *socket }

func (s *Subscription) openWebSocket(ctx context.Context, server string) (source, error) {
	k, err := s.client.dial(ctx, server)
	if err != nil {
		return nil, err
	}
	id := uint64(1)
	command, err := json.Marshal(protocol.Command{ID: &id, Subscribe: &protocol.SubscribeCommand{Topics: s.options.Topics, After: s.cursor, OnGap: s.options.OnGap}})
	if err == nil {
		err = k.send(command)
	}
	if err != nil {
		k.close()
		return nil, err
	}
	return follower{k}, nil
}

func (f follower) next(ctx context.Context) (batch, error) {
	stop := context.AfterFunc(ctx, f.close)
	defer stop()
	p, err := f.push()
	switch {
	case err != nil:
		return batch{}, err
	case p.Error != nil:
		return batch{}, p.Error.Err()
	case p.Drain != nil:
		return batch{}, errMoved
	case p.Event != nil:
		return batch{deliveries: []Delivery{{Event: p.Event}}, cursor: p.Event.Cursor}, nil
	case p.Gap != nil:
		return batch{deliveries: []Delivery{{Gap: p.Gap}}}, nil
	case p.Subscribed != nil:
		b := batch{cursor: p.Subscribed.Cursor}
		for i := range p.Subscribed.Gaps {
			b.deliveries = append(b.deliveries, Delivery{Gap: &p.Subscribed.Gaps[i]})
		}
		return b, nil
	}
	return batch{}, nil
}

// leftover is what the handshake read too much.
func leftover(r *bufio.Reader) []byte {
	b, _ := r.Peek(r.Buffered())
	return b
}
