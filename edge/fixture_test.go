package edge

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
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// deadline bounds every wait of a test.
const deadline = 15 * time.Second

// memoryLog is a log of one replica: what is proposed is applied.
type memoryLog struct {
	mu        sync.Mutex // guards what follows
	partition *broker.Partition
	index     uint64
}

func (l *memoryLog) Propose(_ context.Context, entry []byte) (any, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.index++
	return l.partition.Apply(l.index, entry), nil
}

func (*memoryLog) Leader() (string, bool) { return "self", true }
func (*memoryLog) IsLeader() bool         { return true }
func (*memoryLog) Voter() bool            { return true }
func (*memoryLog) Current() bool          { return true }
func (*memoryLog) Writable() error        { return nil }

// site is a server on a real socket, in front of a real broker of one node.
type site struct {
	*Server
	t              testing.TB
	addr           string
	url            string
	opened, closed chan struct{} // one signal per reader
}

// watched is a reader whose beginning and end a test can wait for.
type watched struct {
	reader
	closed chan struct{}
	once   sync.Once
}

func (w *watched) Close() {
	w.reader.Close()
	w.once.Do(func() { w.closed <- struct{}{} })
}

func newSite(t testing.TB, change ...func(*Options)) *site {
	t.Helper()
	b, err := broker.New(broker.Options{Self: "self", Dir: t.TempDir(), TailBytes: 256 << 10}) // little, so that who is behind reads from files
	if err != nil {
		t.Fatal(err)
	}
	c := &broker.Catalog{ClusterID: "c1", Policies: []protocol.Policy{{Pattern: "few.**", MaxEvents: 2}}}
	for id := range 4 {
		c.Partitions = append(c.Partitions, []string{"self"})
		b.OpenPartition(uint16(id), &memoryLog{partition: b.Partition(uint16(id))})
	}
	b.SetCatalog(c)
	o := Options{Broker: b, MaxEventBytes: 64 << 10, NoEpoll: noEpoll}
	for _, f := range change {
		f(&o)
	}
	opened, closed := make(chan struct{}, 1000), make(chan struct{}, 1000)
	s := serve(t, newServer(o, func(list []protocol.Selector, start protocol.Start, so broker.SubscribeOptions) (reader, error) {
		r, err := subscribeTo(b)(list, start, so)
		if err != nil {
			return nil, err
		}
		opened <- struct{}{}
		return &watched{reader: r, closed: closed}, nil
	}))
	s.opened, s.closed = opened, closed
	t.Cleanup(func() { _ = b.Close() })
	return s
}

// serve runs a server until the end of the test.
func serve(t testing.TB, s *Server) *site {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
		if err := <-done; err != nil {
			t.Errorf("Serve: got %v, want nil", err)
		}
	})
	return &site{Server: s, t: t, addr: l.Addr().String(), url: "http://" + l.Addr().String()}
}

// answer is a whole HTTP answer.
type answer struct {
	t      testing.TB
	what   string
	Status int
	Header http.Header
	Body   string
}

func (s *site) do(method, path, body string, headers ...string) answer {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	r.Host = r.Header.Get("Host")
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(r)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{s.t, method + " " + path, resp.StatusCode, resp.Header, string(b)}
}

func (s *site) get(path string, headers ...string) answer {
	s.t.Helper()
	return s.do(http.MethodGet, path, "", headers...)
}

func (s *site) publishText(topic string, data ...string) (last protocol.PublishResult) {
	s.t.Helper()
	for _, d := range data {
		s.do(http.MethodPost, "/v1/topics/"+topic+"/events", d, "Content-Type", "text/plain").want(201).into(&last)
	}
	return last
}

func (a answer) want(status int) answer {
	a.t.Helper()
	if a.Status != status {
		a.t.Fatalf("%s: got status %d with %s, want %d", a.what, a.Status, a.Body, status)
	}
	return a
}

func (a answer) wantHeader(name, want string) answer {
	a.t.Helper()
	if got := a.Header.Get(name); got != want {
		a.t.Errorf("%s: header %s: got %q, want %q", a.what, name, got, want)
	}
	return a
}

// wantProblem checks that the answer is problem+json with the code's status.
func (a answer) wantProblem(code protocol.Code) answer {
	a.t.Helper()
	a.want(code.Status()).wantHeader("Content-Type", "application/problem+json")
	var p protocol.Problem
	a.into(&p)
	if p.Code != code || p.Status != a.Status || p.Type == "" || p.Title == "" || p.Detail == "" {
		a.t.Errorf("%s: got %s, want a problem with code %s", a.what, a.Body, code)
	}
	return a
}

func (a answer) into(v any) {
	a.t.Helper()
	if err := json.Unmarshal([]byte(a.Body), v); err != nil {
		a.t.Fatalf("%s: %s: %v", a.what, a.Body, err)
	}
}

func (a answer) page() protocol.Page {
	a.t.Helper()
	var p protocol.Page
	a.want(200).into(&p)
	return p
}

// texts are the payloads of a page.
func texts(list []protocol.Envelope) (out []string) {
	for i := range list {
		e, err := list[i].Event()
		out = append(out, string(e.Data))
		if err != nil {
			out = append(out, err.Error())
		}
	}
	return out
}

func wantTexts(t testing.TB, got []protocol.Envelope, want ...string) {
	t.Helper()
	if g, w := fmt.Sprint(texts(got)), fmt.Sprint(want); g != w {
		t.Errorf("events: got %s, want %s", g, w)
	}
}

// stream is an SSE answer, block by block.
type stream struct {
	t    testing.TB
	resp *http.Response
	in   *bufio.Reader
	stop context.CancelFunc
}

func (s *site) stream(path string, headers ...string) *stream {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	s.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != 200 {
		body, _ := io.ReadAll(resp.Body)
		s.t.Fatalf("GET %s: got %d %s, want 200", path, resp.StatusCode, body)
	}
	return &stream{s.t, resp, bufio.NewReader(resp.Body), cancel}
}

// block reads up to an empty line.
func (s *stream) block() string {
	s.t.Helper()
	var b strings.Builder
	for {
		line, err := s.in.ReadString('\n')
		if err != nil {
			s.t.Fatalf("SSE: got %q and %v, want a block", b.String(), err)
		}
		if line == "\n" {
			return b.String()
		}
		b.WriteString(line)
	}
}

// first skips what stands before the first event and gives its cursor.
func (s *stream) first() string {
	s.t.Helper()
	s.block()
	return strings.TrimSuffix(strings.TrimPrefix(s.block(), "id: "), "\n")
}

func (s *stream) wantEnd() {
	s.t.Helper()
	if rest, err := io.ReadAll(s.in); err != nil || len(rest) > 0 {
		s.t.Errorf("SSE: got %q and %v, want its end", rest, err)
	}
}

// wsClient is a WebSocket's other side.
type wsClient struct {
	t    testing.TB
	conn net.Conn
	in   io.Reader
}

func (s *site) dial(path string, protocols ...string) *wsClient {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	conn, br, hs, err := ws.Dialer{Protocols: protocols}.Dial(ctx, "ws://"+s.addr+path)
	if err != nil {
		s.t.Fatalf("dial %s: %v", path, err)
	}
	if len(protocols) > 0 && hs.Protocol != protocols[0] {
		s.t.Fatalf("dial %s: got subprotocol %q, want %q", path, hs.Protocol, protocols[0])
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	c := &wsClient{t: s.t, conn: conn, in: conn}
	if br != nil {
		c.in = br
	}
	_ = conn.SetDeadline(time.Now().Add(deadline))
	return c
}

func (s *site) dialJSON(path string) *wsClient { return s.dial(path, protocol.SubprotocolJSON) }

func (c *wsClient) send(lines ...string) {
	c.t.Helper()
	c.frame(ws.NewTextFrame([]byte(strings.Join(lines, "\n"))))
}

func (c *wsClient) frame(f ws.Frame) {
	c.t.Helper()
	if err := ws.WriteFrame(c.conn, ws.MaskFrame(f)); err != nil {
		c.t.Fatalf("write frame: %v", err)
	}
}

func (c *wsClient) read() ws.Frame {
	c.t.Helper()
	f, err := c.next()
	if err != nil {
		c.t.Fatalf("read frame: %v", err)
	}
	return f
}

func (c *wsClient) next() (f ws.Frame, err error) {
	if f.Header, err = ws.ReadHeader(c.in); err != nil {
		return f, err
	}
	if f.Header.Length > 1<<20 {
		return f, fmt.Errorf("the server sent a frame of %d bytes", f.Header.Length)
	}
	f.Payload = make([]byte, f.Header.Length)
	_, err = io.ReadFull(c.in, f.Payload)
	return f, err
}

// push reads the next text frame as a push.
func (c *wsClient) push() (p protocol.Push) {
	c.t.Helper()
	f := c.read()
	d := json.NewDecoder(bytes.NewReader(f.Payload))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); f.Header.OpCode != ws.OpText || err != nil {
		c.t.Fatalf("got frame %v %q (%v), want a push", f.Header.OpCode, f.Payload, err)
	}
	return p
}

func (c *wsClient) event() protocol.Envelope {
	c.t.Helper()
	p := c.push()
	if p.Event == nil {
		c.t.Fatalf("got %+v, want an event", p)
	}
	return *p.Event
}

func (c *wsClient) wantClose(code protocol.CloseCode) string {
	c.t.Helper()
	for {
		f := c.read()
		if f.Header.OpCode != ws.OpClose {
			continue
		}
		got, reason := ws.ParseCloseFrameData(f.Payload)
		if got != ws.StatusCode(code) {
			c.t.Errorf("got close %d %q, want %d", got, reason, code)
		}
		return reason
	}
}

func (c *wsClient) wantEOF() {
	c.t.Helper()
	if _, err := c.next(); err == nil || errors.Is(err, context.DeadlineExceeded) {
		c.t.Errorf("got %v, want the connection's end", err)
	}
}
