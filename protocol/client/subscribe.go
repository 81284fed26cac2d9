package client

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/pushd/pushd/protocol"
)

// Via names a delivery system.
type Via string

// The delivery systems.
const (
	WebSocket Via = "ws"
	SSE       Via = "sse"
	LongPoll  Via = "longpoll"
	Poll      Via = "poll"
)

// ErrEnded says that the server told the reader to stop for good: its topics
// are deleted, or its rights are gone.
var ErrEnded = errors.New("the subscription has ended: nothing more will come")

// SubscribeOptions say what to read and how.
type SubscribeOptions struct {
	Topics    []string      // topics and patterns
	After     string        // start: a cursor, earliest, latest, -N, @time; "" means latest
	Via       Via           // "" means WebSocket
	OnGap     string        // "error" ends with an error at a gap
	PollEvery time.Duration // between short polls that found nothing; 0 means 1 s
	Presence  *Attend       // nil: without presence
}

// Delivery is one thing a reader gets: an event, a gap, or who is there.
type Delivery struct {
	Event    *protocol.Envelope
	Gap      *protocol.Gap
	Presence *protocol.Presence
}

// batch is what a source gives at once, and the cursor behind it.
type batch struct {
	deliveries []Delivery
	cursor     string
}

// add appends what came later.
func (b *batch) add(later batch) {
	b.deliveries = append(b.deliveries, later.deliveries...)
	if later.cursor != "" {
		b.cursor = later.cursor
	}
}

// source is one connection, or a series of polls, that began at a cursor.
type source interface {
	next(ctx context.Context) (batch, error)
	close()
}

// Subscription is a reader that comes back by itself.
type Subscription struct {
	client  *Client
	options SubscribeOptions
	source  source
	server  string // that source is connected to
	started time.Time
	cursor  string
	pending []Delivery
	behind  string // the cursor behind all that is pending
	pause   time.Duration
}

// Subscribe makes a reader; it connects when Next is called.
func (c *Client) Subscribe(o SubscribeOptions) (*Subscription, error) {
	switch o.Via {
	case "":
		o.Via = WebSocket
	case WebSocket, SSE, LongPoll, Poll:
	default:
		return nil, fmt.Errorf("via %q is not ws, sse, longpoll or poll", o.Via)
	}
	if o.PollEvery == 0 {
		o.PollEvery = defaultEvery
	}
	if o.After == "" {
		o.After = "latest"
	}
	if _, err := protocol.ParseSelectors(o.Topics); err != nil {
		return nil, err
	}
	return &Subscription{client: c, options: o, cursor: o.After, pause: firstPause}, nil
}

// Next waits for the next event or gap. Errors are final: the server refused in
// a way that trying again does not change, no server answered within
// [Options].Search, or ctx ended.
func (s *Subscription) Next(ctx context.Context) (Delivery, error) {
	for len(s.pending) == 0 {
		if err := s.fill(ctx); err != nil {
			return Delivery{}, err
		}
	}
	d := s.pending[0]
	s.pending = s.pending[1:]
	if d.Event != nil && d.Event.Cursor != "" {
		s.cursor = d.Event.Cursor
	}
	if len(s.pending) == 0 && s.behind != "" {
		s.cursor = s.behind
	}
	return d, nil
}

// fill gets the next batch, over a new connection if need be.
func (s *Subscription) fill(ctx context.Context) error {
	if s.started.IsZero() {
		s.started = time.Now()
	}
	b, err := s.step(ctx)
	if err == nil {
		s.pause = firstPause
		s.pending = b.deliveries
		if s.behind = b.cursor; len(b.deliveries) == 0 && b.cursor != "" {
			s.cursor = b.cursor
		}
		return nil
	}
	s.drop()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if final(err) {
		return err
	}
	if s.client.lost(s.started) {
		return fmt.Errorf("%w: %s: %w", ErrUnreachable, s.server, err)
	}
	s.client.next(s.server)
	pause := jitter(s.pause)
	s.pause = min(2*s.pause, longestPause)
	if m, ok := errors.AsType[*moved](err); ok {
		pause, s.pause = m.after, firstPause // no failure of the server's
	}
	if !sleep(ctx, max(pause, asked(err))) {
		return ctx.Err()
	}
	return nil
}

func (s *Subscription) step(ctx context.Context) (batch, error) {
	if s.source == nil {
		s.server = s.client.Server()
		source, err := s.connect(ctx, s.server)
		if err != nil {
			return batch{}, err
		}
		s.source = source
	}
	return s.source.next(ctx)
}

func (s *Subscription) connect(ctx context.Context, server string) (source, error) {
	switch s.options.Via {
	case SSE:
		return s.openSSE(ctx, server)
	case WebSocket:
		return s.openWebSocket(ctx, server)
	}
	return &poller{sub: s, server: server}, nil
}

// Cursor is where the reader stands: behind the last delivery that Next gave.
// It is valid at every server and over every delivery system.
func (s *Subscription) Cursor() string { return s.cursor }

// Close ends the connection.
func (s *Subscription) Close() { s.drop() }

func (s *Subscription) drop() {
	if s.source != nil {
		s.source.close()
		s.source = nil
	}
}

// query is the reader's question, as URL parameters.
func (s *Subscription) query() url.Values {
	v := url.Values{"topic": s.options.Topics, "after": {s.cursor}}
	if s.options.OnGap != "" {
		v.Set("on_gap", s.options.OnGap)
	}
	s.options.Presence.query(v)
	return v
}

// moved ends a connection whose server drains and asked to go on elsewhere,
// after a time that spreads its clients.
type moved struct{ after time.Duration }

func (m *moved) Error() string { return "the server asked to reconnect" }

func moveAfter(d protocol.Drain) *moved {
	return &moved{min(max(0, time.Duration(d.AfterMS)*time.Millisecond), longestMove)}
}

// final says whether an error stays, however often one tries.
func final(err error) bool {
	if errors.Is(err, ErrEnded) {
		return true
	}
	if s, ok := errors.AsType[*strangeAnswer](err); ok {
		return s.final()
	}
	e, ok := errors.AsType[*protocol.Error](err)
	return ok && !temporary(e.Code.Status()) && e.Code != protocol.Internal
}

// Ready says whether Next has a delivery at hand, so that it will not wait.
func (s *Subscription) Ready() bool { return len(s.pending) > 0 }
