package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/pushd/pushd/protocol"
)

// pipes is a listener whose connections are pipes, for fake time.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (p pipes) Close() error {
	close(p)
	return nil
}

func (p pipes) Addr() net.Addr { return &net.IPAddr{} }

// inBubble gives a client whose servers are handlers, by name, in fake time.
// What is not there can't be dialed.
func inBubble(t *testing.T, o Options, servers map[string]http.HandlerFunc) *Client {
	t.Helper()
	listeners := map[string]pipes{}
	for name, h := range servers {
		l := make(pipes)
		s := &http.Server{Handler: h}
		go func() { _ = s.Serve(l) }()
		t.Cleanup(func() { _ = s.Close() })
		listeners[name+":80"] = l
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	c.connectBy(func(ctx context.Context, _, addr string) (net.Conn, error) {
		l, ok := listeners[addr]
		if !ok {
			return nil, fmt.Errorf("dial %s: refused", addr)
		}
		mine, theirs := net.Pipe()
		select {
		case l <- theirs:
			return mine, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	t.Cleanup(c.Close)
	return c
}

// hang never answers, as a process that was stopped.
func hang(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

func stored(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, `{"topic":"a","offset":1}`)
}

func TestAPublishPassesOverAServerThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := inBubble(t, Options{Servers: []string{"http://one", "http://two"}}, map[string]http.HandlerFunc{"one": hang, "two": stored})
		began := time.Now()
		r, err := c.Publish(context.Background(), Message{Topic: "a"})
		if took := time.Since(began); err != nil || r.Offset != 1 || took < answerTimeout || took > answerTimeout+firstPause {
			t.Errorf("got %+v, %v after %v, want offset 1 after %v", r, err, took, answerTimeout)
		}
	})
}

func TestAnAnswerCutShortIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		c := inBubble(t, Options{Servers: []string{"http://one"}}, map[string]http.HandlerFunc{"one": func(w http.ResponseWriter, r *http.Request) {
			if tries++; tries == 1 {
				w.Header().Set("Content-Length", "500")
				_, _ = io.WriteString(w, `{"topic":`)
				return
			}
			stored(w, r)
		}})
		if r, err := c.Publish(context.Background(), Message{Topic: "a"}); err != nil || r.Offset != 1 || tries != 2 {
			t.Errorf("got %+v, %v after %d tries, want offset 1 after 2", r, err, tries)
		}
	})
}

func TestRetryAfterIsObeyedWhereTheServerIsOverloaded(t *testing.T) {
	for code, want := range map[protocol.Code][2]time.Duration{
		protocol.Overloaded:      {3 * time.Second, 3*time.Second + firstPause},
		protocol.TooManyRequests: {3 * time.Second, 3*time.Second + firstPause},
		protocol.NoLeader:        {0, longestLull}, // a leader comes sooner than whole seconds can say
	} {
		synctest.Test(t, func(t *testing.T) {
			tries := 0
			c := inBubble(t, Options{Servers: []string{"http://one"}}, map[string]http.HandlerFunc{"one": func(w http.ResponseWriter, r *http.Request) {
				if tries++; tries == 1 {
					w.Header().Set("Retry-After", "3")
					refuse(w, code)
					return
				}
				stored(w, r)
			}})
			began := time.Now()
			_, err := c.Publish(context.Background(), Message{Topic: "a"})
			if took := time.Since(began); err != nil || took < want[0] || took > want[1] {
				t.Errorf("%s: got %v after %v, want success after %v to %v", code, err, took, want[0], want[1])
			}
		})
	}
}

func TestTriesEndWithMaxWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := inBubble(t, Options{Servers: []string{"http://one"}, MaxWait: 5 * time.Second}, map[string]http.HandlerFunc{
			"one": func(w http.ResponseWriter, _ *http.Request) { refuse(w, protocol.NoLeader) },
		})
		began := time.Now()
		_, err := c.Publish(context.Background(), Message{Topic: "a"})
		if took := time.Since(began); protocol.CodeOf(err) != protocol.NoLeader || took != 5*time.Second {
			t.Errorf("got %v after %v, want the last refusal after 5s", err, took)
		}
	})
}

// silentSocket upgrades, takes the first frame and says what is given, then
// reads on without ever answering.
func silentSocket(lines ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		u := ws.HTTPUpgrader{Protocol: func(string) bool { return true }}
		conn, _, _, err := u.Upgrade(r, w)
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		k := talk{conn, 0}
		k.hear()
		k.say(lines...)
		_, _ = io.Copy(io.Discard, conn)
	}
}

func TestASocketThatHangsIsLeftForTheNextServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := inBubble(t, Options{Servers: []string{"http://one", "http://two"}}, map[string]http.HandlerFunc{"one": silentSocket(event(1)), "two": silentSocket(event(2))})
		s, err := c.Subscribe(SubscribeOptions{Topics: []string{"a"}})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for want := uint64(1); want <= 2; want++ {
			began := time.Now()
			d, err := s.Next(context.Background())
			if err != nil || d.Event.Offset != want || time.Since(began) > silence+firstPause {
				t.Fatalf("got %+v, %v after %v, want offset %d", d, err, time.Since(began), want)
			}
		}
	})
}

func TestAQuietSocketIsPingedAndKeptWhileItAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine, theirs := net.Pipe()
		k := newSocket(mine, nil)
		defer k.close()
		go func() {
			for range 5 {
				_, _, err := wsutil.ReadClientData(theirs) // answers pings
				if err != nil {
					return
				}
			}
		}()
		time.AfterFunc(time.Minute, func() { _ = wsutil.WriteServerText(theirs, []byte(event(1))) })
		began := time.Now()
		p, err := k.push()
		if err != nil || p.Event == nil || time.Since(began) != time.Minute {
			t.Errorf("got %+v, %v after %v, want an event after a minute", p, err, time.Since(began))
		}
		_ = theirs.Close()
	})
}

func TestAStreamWithoutHeartbeatsIsLeftForTheNextServer(t *testing.T) {
	stream := func(block string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, block)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
	}
	synctest.Test(t, func(t *testing.T) {
		c := inBubble(t, Options{Servers: []string{"http://one", "http://two"}}, map[string]http.HandlerFunc{
			"one": stream("id: c1\ndata: {\"offset\":1}\n\nid: c2\ndata: {\"offset\":2}\n\n"),
			"two": stream("id: c3\ndata: {\"offset\":3}\n\n"),
		})
		s, err := c.Subscribe(SubscribeOptions{Topics: []string{"a"}, Via: SSE})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for want := uint64(1); want <= 3; want++ {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			began := time.Now()
			d, err := s.Next(ctx)
			cancel() // of one Next, not of the stream
			if err != nil || d.Event.Offset != want || time.Since(began) > sseSilence+firstPause {
				t.Fatalf("got %+v, %v after %v, want offset %d", d, err, time.Since(began), want)
			}
			if want == 1 != s.Ready() {
				t.Errorf("behind offset %d: got ready %v", want, s.Ready())
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := s.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
		}
	})
}

func TestADrainingServerIsLeftAfterTheTimeItNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, via := range []Via{WebSocket, SSE} {
			answer := silentSocket(`{"drain":{"after_ms":700}}`)
			if via == SSE {
				answer = func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "text/event-stream")
					_, _ = io.WriteString(w, "retry: 700\nevent: pushd.drain\ndata: {\"after_ms\":700}\n\n")
				}
			}
			next := silentSocket(event(1))
			if via == SSE {
				next = func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "text/event-stream")
					_, _ = io.WriteString(w, "id: c1\ndata: {\"offset\":1}\n\n")
				}
			}
			c := inBubble(t, Options{Servers: []string{"http://one", "http://two"}}, map[string]http.HandlerFunc{"one": answer, "two": next})
			s, err := c.Subscribe(SubscribeOptions{Topics: []string{"a"}, Via: via})
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			d, err := s.Next(context.Background())
			if took := time.Since(began); err != nil || d.Event.Offset != 1 || took != 700*time.Millisecond {
				t.Errorf("over %s: got %+v, %v after %v, want offset 1 after 700ms", via, d, err, took)
			}
			s.Close()
		}
	})
}

// publishing answers the commands of a WebSocket, as the test says.
func publishing(answer func(c protocol.Command) string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		u := ws.HTTPUpgrader{Protocol: func(string) bool { return true }}
		conn, _, _, err := u.Upgrade(r, w)
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		k := talk{conn, 0}
		for commands := k.hear(); commands != nil; commands = k.hear() {
			for _, c := range commands {
				if line := answer(c); line != "" {
					k.say(line)
				}
			}
		}
	}
}

func TestAPublisherTriesARefusalForNowAgainAndGivesUpAfterMaxWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := map[string]int{}
		c := inBubble(t, Options{Servers: []string{"http://one"}, MaxWait: 5 * time.Second}, map[string]http.HandlerFunc{"one": publishing(func(c protocol.Command) string {
			id := c.Publish.EventID
			tries[id]++
			switch {
			case id == "mute":
				return ""
			case id == "never" || tries[id] < 3:
				return fmt.Sprintf(`{"id":%d,"error":{"code":"no_leader"}}`, *c.ID)
			}
			return fmt.Sprintf(`{"id":%d,"published":{"offset":9}}`, *c.ID)
		})})
		p := c.Publisher()
		defer p.Close()
		if r, err := p.Publish(context.Background(), Message{Topic: "a", ID: "soon"}); err != nil || r.Offset != 9 || tries["soon"] != 3 {
			t.Errorf("got %+v, %v after %d tries, want offset 9 after 3", r, err, tries["soon"])
		}
		for id, want := range map[string]protocol.Code{"never": protocol.NoLeader, "mute": protocol.StoreTimeout} {
			began := time.Now()
			_, err := p.Publish(context.Background(), Message{Topic: "a", ID: id})
			if took := time.Since(began); protocol.CodeOf(err) != want || took < 5*time.Second || took > 7*time.Second {
				t.Errorf("%s: got %v after %v, want %s after 5s", id, err, took, want)
			}
		}
	})
}

func TestPublishesThatNobodyWaitsForHoldUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := inBubble(t, Options{Servers: []string{"http://one"}}, map[string]http.HandlerFunc{"one": publishing(func(c protocol.Command) string {
			return fmt.Sprintf(`{"id":%d,"published":{"offset":9}}`, *c.ID)
		})})
		p := &Publisher{client: c, cancel: func() {}, ready: make(chan struct{}, 1), room: make(chan struct{}, window), flights: map[uint64]*flight{}}
		for range 2 * frameCommands {
			f, err := p.queue(&Message{Topic: "a"})
			if err != nil {
				t.Fatal(err)
			}
			p.take(f.id)
		}
		if _, err := p.queue(&Message{Topic: "a", ID: "last"}); err != nil {
			t.Fatal(err)
		}
		if frame := string(p.frame(nil)); !strings.Contains(frame, `"last"`) || strings.Contains(frame, "\n") {
			t.Errorf("got the frame %q, want the last publish alone", frame)
		}
	})
}

func TestAPublisherEndsWhereNoServerEverAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := inBubble(t, Options{Servers: []string{"http://none"}, Search: 3 * time.Second}, nil).Publisher()
		defer p.Close()
		began := time.Now()
		_, err := p.Publish(context.Background(), Message{Topic: "a"})
		if took := time.Since(began); !errors.Is(err, ErrUnreachable) || took < 3*time.Second || took > 3*time.Second+2*longestPause {
			t.Errorf("got %v after %v, want %v after 3s", err, took, ErrUnreachable)
		}
	})
}
