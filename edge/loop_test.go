package edge

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/protocol"
)

// raw is a connection of which a test writes the bytes itself.
type raw struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
}

func (s *site) raw() *raw {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(deadline))
	return &raw{s.t, conn, bufio.NewReader(conn)}
}

func (r *raw) write(parts ...string) {
	r.t.Helper()
	if _, err := io.WriteString(r.conn, strings.Join(parts, "")); err != nil {
		r.t.Fatal(err)
	}
}

// answer reads an HTTP answer.
func (r *raw) answer() answer {
	r.t.Helper()
	resp, err := http.ReadResponse(r.in, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	var body []byte
	if resp.StatusCode != http.StatusSwitchingProtocols {
		if body, err = io.ReadAll(resp.Body); err != nil {
			r.t.Fatal(err)
		}
	}
	return answer{r.t, "raw", resp.StatusCode, resp.Header, string(body)}
}

func (r *raw) socket() *wsClient { return &wsClient{t: r.t, conn: r.conn, in: r.in} }

const upgradeHeaders = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: pushd.v1.json\r\n\r\n"

func upgradeTo(path string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: x\r\n" + upgradeHeaders
}

func masked(f ws.Frame) string { return string(ws.MustCompileFrame(ws.MaskFrame(f))) }

func TestARequestAndFramesMayComeInAnyPieces(t *testing.T) {
	s := newSite(t)
	all := upgradeTo("/v1/events") + masked(ws.NewTextFrame([]byte(`{"id":1,"ping":{}}`)))
	for _, size := range []int{1, 7, 64, len(all) - 1, len(all)} {
		r := s.raw()
		for rest := all; rest != ""; {
			n := min(size, len(rest))
			r.write(rest[:n])
			rest = rest[n:]
		}
		r.answer().want(101).wantHeader("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=").wantHeader("Sec-WebSocket-Protocol", "pushd.v1.json")
		if p := r.socket().push(); p.Pong == nil {
			t.Errorf("pieces of %d: got %+v, want pong", size, p)
		}
	}
}

func TestOneConnectionServesRequestsOfEveryKind(t *testing.T) {
	s := newSite(t)
	r := s.raw()
	body := strings.Repeat("x", 20<<10)
	r.write(fmt.Sprintf("POST /v1/topics/a/events HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
	r.answer().want(201)
	r.write("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
	r.answer().want(200)
	r.write("GET /v1/topics/a/events?after=junk HTTP/1.1\r\nHost: x\r\n", upgradeHeaders)
	r.answer().wantProblem(protocol.BadCursor)
	r.write("GET /v1/events?topic=a HTTP/1.1\r\nHost: x\r\n\r\n")
	if n := len(r.answer().page().Events); n != 1 {
		t.Errorf("got %d events, want 1", n)
	}
	r.write(upgradeTo("/v1/topics/a/events?after=earliest"), masked(ws.NewTextFrame([]byte(`{"id":7,"ping":{}}`))))
	r.answer().want(101)
	c := r.socket()
	c.push()
	if e := c.event(); e.Offset != 1 {
		t.Errorf("got offset %d, want 1", e.Offset)
	}
	if p := c.push(); p.Pong == nil {
		t.Errorf("got %+v, want pong", p)
	}
}

func TestDataThenFINIsUsedAndTheConnectionFreed(t *testing.T) {
	s := newSite(t)
	watcher := s.dialJSON("/v1/events?topic=fin")
	watcher.push()
	<-s.opened
	for range 50 {
		c := s.dialJSON("/v1/events?topic=a")
		c.push()
		c.send(`{"id":1,"publish":{"topic":"fin","data":1}}`)
		_ = c.conn.Close()
		<-s.opened
		<-s.closed
		watcher.event()
	}
	if n := s.readers.Load(); n != 1 {
		t.Errorf("got %d readers, want the watcher alone", n)
	}
}

func TestReadersOfOneTopicShareASubscription(t *testing.T) {
	s := newSite(t, func(o *Options) { o.Loops = 1 })
	var clients []*wsClient
	for range 20 {
		c := s.dialJSON("/v1/events?topic=a")
		c.push()
		clients = append(clients, c)
	}
	s.publishText("a", "1")
	for _, c := range clients {
		wantTexts(t, []protocol.Envelope{c.event()}, "1")
	}
	if n := len(s.opened); n != 2 {
		t.Errorf("got %d subscriptions, want that of the first, who was alone, and that of the others", n)
	}
	for _, c := range clients {
		c.frame(ws.NewCloseFrame(ws.NewCloseFrameBody(1000, "")))
		c.wantClose(1000)
		c.wantEOF()
	}
	<-s.closed
}

func TestAStalledReaderDoesNotHoldUpOthersAndLosesNothing(t *testing.T) {
	s := newSite(t, func(o *Options) { o.Loops = 1 })
	slow, fast := s.dialJSON("/v1/events?topic=a"), s.dialJSON("/v1/events?topic=a")
	slow.push()
	fast.push()
	s.wantNothingLost("a", slow, fast, 50)
}

// wantNothingLost publishes far more to a topic than a socket takes, so many
// events at a time. fast reads as they come, slow when all have, and both want
// each of them.
func (s *site) wantNothingLost(topic string, slow, fast *wsClient, each int) {
	s.t.Helper()
	const rounds = 12
	line := fmt.Sprintf(`{"topic":%q,"data":%q}`+"\n", topic, strings.Repeat("x", 32<<10))
	for round := range rounds {
		s.do(http.MethodPost, "/v1/events", strings.Repeat(line, each)).want(200)
		for i := range each {
			if e := fast.event(); e.Offset != uint64(round*each+i+1) {
				s.t.Fatalf("%s: fast reader: got offset %d, want %d", topic, e.Offset, round*each+i+1)
			}
		}
	}
	for want := uint64(1); want <= uint64(rounds*each); want++ {
		if e := slow.event(); e.Offset != want {
			s.t.Fatalf("%s: slow reader: got offset %d, want %d", topic, e.Offset, want)
		}
	}
	s.publishText(topic, "last")
	wantTexts(s.t, []protocol.Envelope{slow.event(), fast.event()}, "last", "last")
}
