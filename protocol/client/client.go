package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pushd/pushd/protocol"
)

// ErrUnreachable says that no server answered.
var ErrUnreachable = errors.New("no server can be reached")

// Options configure a [Client].
type Options struct {
	Servers []string // base URLs, tried in turn; empty means http://127.0.0.1:7340
	Token   string   // a token or an API key, sent as a bearer token; "" sends none
	// GetToken is asked for a token before the first request, and for another one when that has ended, or is about to; nil: there is only Token.
	// Several goroutines may call it at once.
	GetToken func(ctx context.Context) (string, error)
	MaxWait  time.Duration // how long a Publish or a whole PublishAll is tried; 0 means 30 s
	Search   time.Duration // how long readers and publishes look for a server if none ever answered; 0 means as long as for one that did
	TLS      *tls.Config   // for https servers; nil means the system's roots
}

// Client talks to a cluster.
type Client struct {
	servers []string
	tokens  tokens
	maxWait time.Duration
	search  time.Duration
	tls     *tls.Config
	http    *http.Client
	dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	reached atomic.Bool  // some server has answered
	current atomic.Int64 // index of the server that answered last
}

// New makes a client; it connects when it is used.
func New(o Options) (*Client, error) {
	c := &Client{tokens: tokens{get: o.GetToken, now: o.Token}, maxWait: o.MaxWait, search: o.Search, tls: o.TLS}
	if c.maxWait == 0 {
		c.maxWait = defaultWait
	}
	for _, s := range o.Servers {
		u, err := url.Parse(strings.TrimRight(strings.TrimSpace(s), "/"))
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("server %q is no URL such as %s", s, defaultServer)
		}
		c.servers = append(c.servers, u.String())
	}
	if len(c.servers) == 0 {
		c.servers = []string{defaultServer}
	}
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepIdle, Interval: keepEvery, Count: keepCount}}
	c.connectBy(dialer.DialContext)
	return c, nil
}

// connectBy makes all connections by dial.
func (c *Client) connectBy(dial func(ctx context.Context, network, addr string) (net.Conn, error)) {
	c.dial = dial
	c.http = &http.Client{Transport: &http.Transport{
		DialContext: dial, TLSClientConfig: c.tls.Clone(), MaxIdleConnsPerHost: idlePerServer, IdleConnTimeout: idleTimeout,
	}}
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Server is the server that is used just now.
func (c *Client) Server() string { return c.servers[int(c.current.Load())%len(c.servers)] }

// next goes over to the next server, if from is still the current one.
func (c *Client) next(from string) {
	i := c.current.Load()
	if c.servers[int(i)%len(c.servers)] == from {
		c.current.CompareAndSwap(i, i+1)
	}
}

// request is one HTTP request, to be sent to whichever server answers.
type request struct {
	method, path string
	header       http.Header
	body         []byte
}

// do sends a request until a server takes it or refuses it for good, or ctx
// ends, and returns the answer's body. So it is for requests that may be sent
// twice. An answer that was cut short counts as none.
func (c *Client) do(ctx context.Context, r request) ([]byte, error) {
	pause := firstPause
	started := time.Now()
	var last error
	for {
		server := c.Server()
		body, err := c.ask(ctx, answerTimeout, server, r)
		if err == nil || final(err) {
			return body, err
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		c.next(server)
		if c.lost(started) || !sleep(ctx, max(jitter(pause), asked(err))) {
			return nil, last
		}
		pause = min(2*pause, longestPause)
	}
}

// ask sends a request once, with a limit to how long a server may take: one
// that hangs must not keep a request from the next.
func (c *Client) ask(ctx context.Context, limit time.Duration, server string, r request) ([]byte, error) {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	resp, _, err := c.once(limited, server, r)
	var body []byte
	if err == nil {
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode >= 300 {
			return nil, problem(resp)
		}
		body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	}
	switch {
	case err == nil:
		return body, nil
	case errors.Is(err, ErrNoToken):
		return nil, err
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s has not answered: %w", server, ctx.Err())
	}
	return nil, fmt.Errorf("%w: %s: %w", ErrUnreachable, server, err)
}

// asked is how long a refusal asks to wait. Where another server may do better,
// or a new leader is there within a fraction of a second, it is not waited for.
func asked(err error) time.Duration {
	e, ok := errors.AsType[*protocol.Error](err)
	if !ok {
		return 0
	}
	wait := e.RetryAfter + jitter(firstPause)
	if e.Code == protocol.TooManyRequests || e.Code == protocol.Overloaded {
		return min(wait, longestAsked)
	}
	return min(wait, longestLull)
}

// lost says whether to give up on servers none of which has ever answered.
func (c *Client) lost(started time.Time) bool {
	return c.search > 0 && !c.reached.Load() && time.Since(started) >= c.search
}

// once sends a request, and once more if the server asks for another token and
// there is one.
func (c *Client) once(ctx context.Context, server string, r request) (resp *http.Response, token string, err error) {
	resp, token, err = c.send(ctx, server, r)
	if err != nil || resp.StatusCode != http.StatusUnauthorized || !c.tokens.drop(token) {
		return resp, token, err
	}
	_ = resp.Body.Close()
	return c.send(ctx, server, r)
}

func (c *Client) send(ctx context.Context, server string, r request) (resp *http.Response, token string, err error) {
	req, err := http.NewRequestWithContext(ctx, r.method, server+r.path, bytes.NewReader(r.body))
	if err != nil {
		return nil, "", err
	}
	maps.Copy(req.Header, r.header)
	if token, err = c.authorize(ctx, req.Header); err != nil {
		return nil, "", err
	}
	if resp, err = c.http.Do(req); err == nil {
		c.reached.Store(true)
	}
	return resp, token, err
}

func temporary(status int) bool {
	return status == http.StatusTooManyRequests || status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
}

// problem turns a refusal into its error, and closes the body.
func problem(resp *http.Response) error {
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	var p protocol.Problem
	if json.Unmarshal(body, &p) == nil && p.Code != "" {
		e := p.Err()
		if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && e.RetryAfter == 0 {
			e.RetryAfter = time.Duration(seconds) * time.Second
		}
		return e
	}
	return &strangeAnswer{resp.StatusCode, fmt.Sprintf("the server answered %s: %.200s", resp.Status, body)}
}

// strangeAnswer is a refusal that is not pushd's own: a proxy's, or that of
// another program at this address.
type strangeAnswer struct {
	status int
	text   string
}

func (s *strangeAnswer) Error() string { return s.text }

// final says whether it would stay, however often one tries.
func (s *strangeAnswer) final() bool {
	return s.status < 500 && !temporary(s.status) && s.status != http.StatusRequestTimeout && s.status != http.StatusTooEarly
}

// getJSON reads an answer into v.
func (c *Client) getJSON(ctx context.Context, path string, v any) error {
	body, err := c.oneRound(ctx, request{method: http.MethodGet, path: path})
	if err != nil {
		return err
	}
	return parse(body, v)
}

// oneRound asks each server once.
func (c *Client) oneRound(ctx context.Context, r request) (body []byte, err error) {
	for range c.servers {
		server := c.Server()
		if body, err = c.ask(ctx, answerTimeout, server, r); err == nil || final(err) {
			return body, err
		}
		c.next(server)
	}
	return nil, err
}

func parse(body []byte, v any) error {
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	return nil
}

// Topics lists topics by name: those that begin with prefix, behind after, at
// most limit.
func (c *Client) Topics(ctx context.Context, prefix, after string, limit int) (list protocol.TopicList, err error) {
	q := url.Values{"prefix": {prefix}, "after": {after}, "limit": {strconv.Itoa(limit)}}
	return list, c.getJSON(ctx, "/v1/topics?"+q.Encode(), &list)
}

// Topic describes one topic.
func (c *Client) Topic(ctx context.Context, name string) (info protocol.TopicInfo, err error) {
	return info, c.getJSON(ctx, "/v1/topics/"+url.PathEscape(name), &info)
}

// DeleteTopic deletes a topic and all its events.
func (c *Client) DeleteTopic(ctx context.Context, name string) error {
	_, err := c.oneRound(ctx, request{method: http.MethodDelete, path: "/v1/topics/" + url.PathEscape(name)})
	return err
}

// Cluster describes nodes and partitions.
func (c *Client) Cluster(ctx context.Context) (s protocol.ClusterStatus, err error) {
	return s, c.getJSON(ctx, "/v1/cluster", &s)
}

// newID is a fresh event id: a UUIDv7 (RFC 9562 §5.7), so that ids of one
// publisher sort by time in whatever store they end up.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	ms := uint64(time.Now().UnixMilli())
	binary.BigEndian.PutUint16(b[0:], uint16(ms>>32))
	binary.BigEndian.PutUint32(b[2:], uint32(ms))
	b[6] = b[6]&0x0f | 0x70
	b[8] = b[8]&0x3f | 0x80
	text := make([]byte, 0, 36)
	for i, part := range [][]byte{b[0:4], b[4:6], b[6:8], b[8:10], b[10:]} {
		if i > 0 {
			text = append(text, '-')
		}
		text = hex.AppendEncode(text, part)
	}
	return string(text)
}

func jitter(d time.Duration) time.Duration { return d/2 + mathrand.N(d/2+1) }

// sleep waits; false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
