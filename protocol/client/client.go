package client

import (
	"bytes"
	"context"
	"crypto/rand"
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

const (
	defaultServer = "http://127.0.0.1:7340"
	firstPause    = 50 * time.Millisecond
	longestPause  = 2 * time.Second
	maxAnswer     = 64 << 20
	dialTimeout   = 2 * time.Second
	answerTimeout = 15 * time.Second // headers of an answer that is not a long poll
)

// Options configure a [Client].
type Options struct {
	Servers []string      // base URLs, tried in turn; empty means http://127.0.0.1:7340
	Token   string        // sent as a bearer token; "" sends none
	MaxWait time.Duration // how long a Publish or a whole PublishAll is tried; 0 means 30 s
	Search  time.Duration // how long readers and publishes look for a server if none ever answered; 0 means as long as for one that did
}

// Client talks to a cluster.
type Client struct {
	servers []string
	token   string
	maxWait time.Duration
	search  time.Duration
	http    *http.Client
	reached atomic.Bool  // some server has answered
	current atomic.Int64 // index of the server that answered last
}

// New makes a client; it connects when it is used.
func New(o Options) (*Client, error) {
	c := &Client{token: o.Token, maxWait: o.MaxWait, search: o.Search}
	if c.maxWait == 0 {
		c.maxWait = 30 * time.Second
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
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 5 * time.Second}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext: dialer.DialContext, MaxIdleConnsPerHost: 64, IdleConnTimeout: 30 * time.Second,
	}}
	return c, nil
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

// do sends a request until a server answers with something other than "try
// again", or ctx ends. The caller closes the body.
func (c *Client) do(ctx context.Context, r request) (*http.Response, error) {
	pause := firstPause
	started := time.Now()
	var last error
	for {
		server := c.Server()
		resp, err := c.inTime(ctx, server, r)
		wait := time.Duration(0)
		switch {
		case err == nil && !temporary(resp.StatusCode):
			return resp, nil
		case err == nil:
			last = problem(resp)
			wait = retryAfter(resp)
		case ctx.Err() == nil:
			last = fmt.Errorf("%w: %s: %w", ErrUnreachable, server, err)
		case last == nil:
			last = fmt.Errorf("%s has not answered: %w", server, ctx.Err())
		}
		c.next(server)
		if c.lost(started) || !sleep(ctx, max(jitter(pause), min(wait, 200*time.Millisecond))) {
			return nil, last
		}
		pause = min(2*pause, longestPause)
	}
}

// inTime is once, with a limit to how long a server may take to answer: one
// that hangs must not keep a request from the next. The body ends with ctx.
func (c *Client) inTime(ctx context.Context, server string, r request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(ctx)
	limit := time.AfterFunc(answerTimeout, cancel)
	resp, err := c.once(ctx, server, r)
	limit.Stop()
	if err != nil {
		cancel()
	}
	return resp, err
}

// lost says whether to give up on servers none of which has ever answered.
func (c *Client) lost(started time.Time) bool {
	return c.search > 0 && !c.reached.Load() && time.Since(started) >= c.search
}

func (c *Client) once(ctx context.Context, server string, r request) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, server+r.path, bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, r.header)
	c.authorize(req.Header)
	resp, err := c.http.Do(req)
	if err == nil {
		c.reached.Store(true)
	}
	return resp, err
}

func (c *Client) authorize(h http.Header) {
	if c.token != "" {
		h.Set("Authorization", "Bearer "+c.token)
	}
}

func temporary(status int) bool {
	return status == http.StatusTooManyRequests || status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
}

func retryAfter(resp *http.Response) time.Duration {
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// problem turns a refusal into its error, and closes the body.
func problem(resp *http.Response) error {
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	var p protocol.Problem
	if json.Unmarshal(body, &p) == nil && p.Code != "" {
		return p.Err()
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
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	resp, err := c.oneRound(ctx, request{method: http.MethodGet, path: path})
	if err != nil {
		return err
	}
	return decode(resp, v)
}

// oneRound asks each server once.
func (c *Client) oneRound(ctx context.Context, r request) (*http.Response, error) {
	var last error
	for range c.servers {
		server := c.Server()
		resp, err := c.once(ctx, server, r)
		switch {
		case err == nil && !temporary(resp.StatusCode):
			return resp, nil
		case err == nil:
			last = problem(resp)
		default:
			last = fmt.Errorf("%w: %s: %w", ErrUnreachable, server, err)
		}
		c.next(server)
	}
	return nil, last
}

func decode(resp *http.Response, v any) error {
	if resp.StatusCode >= 300 {
		return problem(resp)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(v); err != nil {
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
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	resp, err := c.oneRound(ctx, request{method: http.MethodDelete, path: "/v1/topics/" + url.PathEscape(name)})
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return problem(resp)
	}
	return resp.Body.Close()
}

// Cluster describes nodes and partitions.
func (c *Client) Cluster(ctx context.Context) (s protocol.ClusterStatus, err error) {
	return s, c.getJSON(ctx, "/v1/cluster", &s)
}

// newID is a fresh event id: 128 random bits.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
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
