package edge

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"
	"github.com/golang-jwt/jwt/v5"

	"github.com/pushd/pushd/protocol"
)

// pipeGuarded is pipeTo with a reader that has nothing, on a server that asks
// for tokens; lines are the header of a token that ends in so many seconds.
func pipeGuarded(t *testing.T, seconds int) (c *raw, lines string) {
	t.Helper()
	a := openTestAuth(t, AuthOptions{}, testSecret, "")
	r := &silent{}
	r.move("C1")
	c = pipeTo(t, r, func(o *Options) { o.Auth = a })
	return c, "Authorization: Bearer " + token(t, jwt.MapClaims{"sub": "ann", "exp": in(seconds), "cap": mayAll}) + "\r\n"
}

func TestAStreamIsToldOfItsTokensEndAndEndsWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, lines := pipeGuarded(t, 100)
		began := time.Now()
		c.write(getAt("/v1/events?topic=a", "Accept: text/event-stream\r\n"+lines))
		resp, err := http.ReadResponse(c.in, nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("got %v, %v, want a stream", resp, err)
		}
		st := &stream{t: t, in: bufio.NewReader(resp.Body)}
		st.first()
		wantNotice(t, st, began, 70*time.Second)
		st.rest()
		if d := time.Since(began); d != 100*time.Second+closeTimeout { // a pipe has no end but being closed
			t.Errorf("the stream ended after %v, want 100 s and %v", d, closeTimeout)
		}
	})
}

func wantNotice(t *testing.T, st *stream, began time.Time, after time.Duration) {
	t.Helper()
	for {
		b := st.block()
		if strings.HasPrefix(b, ":") {
			continue // a heartbeat
		}
		want := fmt.Sprintf("event: pushd.token\ndata: {\"expires_in_ms\":%d}\n", 30_000)
		if b != want || time.Since(began) != after {
			t.Errorf("got %q after %v, want %q after %v", b, time.Since(began), want, after)
		}
		return
	}
}

// rest skips heartbeats up to the stream's end.
func (s *stream) rest() {
	s.t.Helper()
	for {
		line, err := s.in.ReadString('\n')
		if err != nil {
			return
		}
		if line != ": \n" && line != "\n" {
			s.t.Errorf("SSE: got %q behind the notice, want its end", line)
		}
	}
}

func TestAWebSocketIsToldOfItsTokensEndAndClosesWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, lines := pipeGuarded(t, 40)
		began := time.Now()
		c.write(getAt("/v1/events", lines+"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: pushd.v1.json\r\n"))
		if resp, err := http.ReadResponse(c.in, nil); err != nil || resp.StatusCode != 101 {
			t.Fatalf("got %v, %v, want a WebSocket", resp, err)
		}
		w := &wsClient{t: t, conn: c.conn, in: c.in}
		if p := w.push(); p.Token == nil || p.Token.ExpiresInMS != 30_000 || time.Since(began) != 10*time.Second {
			t.Errorf("got %+v after %v, want a notice of 30 s after 10 s", p, time.Since(began))
		}
		w.send(fmt.Sprintf(`{"id":1,"refresh":{"token":%q}}`, token(t, jwt.MapClaims{"sub": "ann", "exp": in(60), "cap": mayAll})))
		if p := w.push(); p.Refreshed == nil || p.Refreshed.ExpiresInMS != 60_000 {
			t.Errorf("got %+v, want refreshed for 60 s", p)
		}
		if f := w.read(); f.Header.OpCode != ws.OpPing {
			t.Fatalf("got %v %q, want a ping", f.Header.OpCode, f.Payload)
		}
		w.frame(ws.NewPongFrame(nil))
		if p := w.push(); p.Token == nil || time.Since(began) != 40*time.Second {
			t.Errorf("got %+v after %v, want another notice after 40 s", p, time.Since(began))
		}
		if f := w.read(); f.Header.OpCode != ws.OpPing {
			t.Fatalf("got %v %q, want a ping", f.Header.OpCode, f.Payload)
		}
		w.frame(ws.NewPongFrame(nil))
		if reason := w.wantClose(protocol.CloseTokenExpired); reason == "" || time.Since(began) != 70*time.Second {
			t.Errorf("closed after %v by %q, want 70 s and words", time.Since(began), reason)
		}
	})
}

func TestALongPollIsAnsweredWhenItsTokenEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, lines := pipeGuarded(t, 20)
		began := time.Now()
		c.write(getAt("/v1/events?topic=a&after=latest&wait=55s", lines))
		if p := c.answer().page(); len(p.Events) != 0 || time.Since(began) != 20*time.Second {
			t.Errorf("got %+v after %v, want an empty page after 20 s", p, time.Since(began))
		}
		c.write(getAt("/v1/events?topic=a&after=latest&wait=55s", lines))
		if p := c.answer().page(); time.Since(began) != 25*time.Second {
			t.Errorf("within the leeway: got %+v after %v, want an answer at its end, after 25 s", p, time.Since(began))
		}
		c.write(getAt("/v1/events?topic=a&wait=55s", lines))
		c.answer().wantProblem(protocol.TokenExpired)
	})
}

// silentServer has a reader that has nothing, for one who may do everything.
func silentServer() (*Server, *principal) {
	r := &silent{}
	r.move("C1")
	grants, _ := parseGrants(mayAll)
	return serverOf(r, Options{}), &principal{subject: "ann", grants: grants, key: newKey(algHS256, "", nil, nil)}
}

// requestOf is a request as net/http's handlers get it from somebody.
func requestOf(t *testing.T, who *principal, target string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	return withWho(r, who)
}

func TestAnHTTP2StreamIsToldOfItsTokensEndAndEndsWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, who := silentServer()
		who.expires = time.Now().Add(40 * time.Second)
		w := &recorder{wrote: make(chan string, 10), header: http.Header{}}
		began := time.Now()
		done := make(chan error, 1)
		go func() {
			req := requestOf(t, who, "/v1/events?topic=a")
			q, _, err := parseTopicsRead(req)
			if err == nil {
				err = s.serveSSE(w, req, q)
			}
			done <- err
		}()
		<-w.wrote
		if got := <-w.wrote; got != "event: pushd.token\ndata: {\"expires_in_ms\":30000}\n\n" || time.Since(began) != 10*time.Second {
			t.Errorf("got %q after %v, want the notice after 10 s", got, time.Since(began))
		}
		if err := <-done; err != nil || time.Since(began) != 40*time.Second {
			t.Errorf("ended after %v with %v, want 40 s", time.Since(began), err)
		}
	})
}

func TestAnHTTP2PollEndsWithItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, who := silentServer()
		req := requestOf(t, who, "/v1/events?topic=a&wait=50s")
		q, f, err := parseTopicsRead(req)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		time.AfterFunc(20*time.Second, func() { close(who.key.gone) })
		err = s.poll(&recorder{wrote: make(chan string, 1), header: http.Header{}}, req, q, f)
		if protocol.CodeOf(err) != protocol.BadToken || time.Since(began) != 20*time.Second {
			t.Errorf("got %v after %v, want %s after 20 s", err, time.Since(began), protocol.BadToken)
		}
	})
}

func TestANarrowerTokenOnABrokenSocketEndsItsSubscriptionsOnce(t *testing.T) {
	r := &silent{}
	r.move("C1")
	l, c := brokenSocket(r, "a", "b")
	l.renew(c, &principal{key: newKey(algHS256, "", nil, nil)})
	if l.count != 0 || len(l.feeds) != 0 {
		t.Errorf("got %d connections and %d feeds, want none", l.count, len(l.feeds))
	}
}
