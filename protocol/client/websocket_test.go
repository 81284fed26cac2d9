package client

import (
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
	"github.com/gobwas/ws/wsutil"

	"github.com/pushd/pushd/protocol"
)

// talk is one connection of a fake server that speaks WebSocket.
type talk struct {
	conn net.Conn
	n    int // connections before this one
}

// hear gives the commands of the client's next frame; none when it has gone.
func (k talk) hear() (commands []protocol.Command) {
	text, err := wsutil.ReadClientText(k.conn)
	if err != nil {
		return nil
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		var c protocol.Command
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			panic(fmt.Sprintf("the client sent %q: %v", line, err))
		}
		commands = append(commands, c)
	}
	return commands
}

func (k talk) say(lines ...string) {
	_ = wsutil.WriteServerText(k.conn, []byte(strings.Join(lines, "\n")))
}

func (k talk) end(code protocol.CloseCode) {
	_ = ws.WriteFrame(k.conn, ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusCode(code), "as the test says")))
	_, _ = io.Copy(io.Discard, k.conn)
}

// fakeSocket answers each connection as the test says, one after the other.
func fakeSocket(t *testing.T, answer func(k talk)) string {
	t.Helper()
	n := 0
	var mu sync.Mutex // one connection at a time
	return fake(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		u := ws.HTTPUpgrader{Protocol: func(p string) bool { return p == protocol.SubprotocolJSON }}
		conn, _, _, err := u.Upgrade(r, w)
		if err != nil {
			t.Errorf("upgrade: %v", err)
			return
		}
		defer func() { _ = conn.Close() }()
		answer(talk{conn, n})
		n++
	})
}

func event(i int) string {
	return fmt.Sprintf(`{"event":{"topic":"a","offset":%d,"data":1,"cursor":"c%d"}}`, i, i)
}

func subscribe(t *testing.T, server, after string) *Subscription {
	t.Helper()
	s, err := newClient(t, server).Subscribe(SubscribeOptions{Topics: []string{"a"}, After: after, Via: WebSocket})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestAWebSocketComesBackWithItsCursor(t *testing.T) {
	var asked []string
	var mu sync.Mutex
	s := subscribe(t, fakeSocket(t, func(k talk) {
		after := k.hear()[0].Subscribe.After
		mu.Lock()
		asked = append(asked, after)
		mu.Unlock()
		k.say(`{"id":1,"subscribed":{"cursor":"`+after+`","recovering":false,"recovered":true}}`, event(3*k.n+1), event(3*k.n+2))
		_ = ws.WriteFrame(k.conn, ws.NewPingFrame([]byte("there?")))
		k.say(event(3*k.n + 3))
		switch k.n {
		case 0: // broken off
		case 1:
			k.say(`{"drain":{"after_ms":1}}`)
			_, _ = io.Copy(io.Discard, k.conn)
		default:
			k.end(protocol.CloseTooSlow)
		}
	}), "c0")
	for want := uint64(1); want <= 12; want++ {
		d, err := s.Next(context.Background())
		if err != nil || d.Event == nil || d.Event.Offset != want {
			t.Fatalf("got %+v, %v, want offset %d", d.Event, err, want)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(asked, " "); got != "c0 c3 c6 c9" || s.Cursor() != "c12" {
		t.Errorf("got connections behind %s and cursor %s, want c0 c3 c6 c9 and c12", got, s.Cursor())
	}
}

func TestGapsOfASubscribeAreGivenBeforeItsEvents(t *testing.T) {
	s := subscribe(t, fakeSocket(t, func(k talk) {
		k.hear()
		k.say(`{"id":1,"subscribed":{"cursor":"c4","recovering":true,"recovered":false,"gaps":[{"topic":"a","from":1,"to":4}]}}`,
			`{"gap":{"topic":"a","from":5,"to":6}}`, event(7))
		_, _ = io.Copy(io.Discard, k.conn)
	}), "c0")
	for _, want := range []string{"gap to 4", "gap to 6", "event 7"} {
		d, err := s.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if d.Gap != nil {
			got = fmt.Sprint("gap to ", d.Gap.To)
		} else {
			got = fmt.Sprint("event ", d.Event.Offset)
		}
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestCloseCodesFrom3500EndAReader(t *testing.T) {
	for code, want := range map[protocol.CloseCode]protocol.Code{
		protocol.CloseBadToken: protocol.BadToken, protocol.CloseBadRequest: protocol.BadRequest, protocol.CloseForbidden: protocol.Forbidden,
	} {
		s := subscribe(t, fakeSocket(t, func(k talk) {
			k.hear()
			k.end(code)
		}), "c0")
		if _, err := s.Next(context.Background()); protocol.CodeOf(err) != want || !strings.Contains(err.Error(), "as the test says") {
			t.Errorf("closed with %d: got %v, want %s with its reason", code, err, want)
		}
	}
}

func TestWhatAPublisherHasUnderWayIsSentAgainInItsOrder(t *testing.T) {
	const events = 50
	stored := map[string]int{}
	server := fakeSocket(t, func(k talk) {
		for answered := 0; ; {
			commands := k.hear()
			if commands == nil {
				return
			}
			for _, c := range commands {
				if k.n < 3 && answered == 7 {
					return // broken off, with some stored and unanswered
				}
				if stored[c.Publish.EventID] == 0 {
					stored[c.Publish.EventID] = len(stored) + 1
				}
				if k.n < 3 && answered == 6 {
					return
				}
				answered++
				k.say(fmt.Sprintf(`{"id":%d,"published":{"offset":%d}}`, *c.ID, stored[c.Publish.EventID]))
			}
		}
	})
	p := newClient(t, server).Publisher()
	defer p.Close()
	var wg sync.WaitGroup
	var offsets [events]uint64
	for i := range events {
		wg.Go(func() {
			r, err := p.Publish(context.Background(), Message{Topic: "a", ID: fmt.Sprint(i)})
			if err != nil {
				t.Errorf("event %d: %v", i, err)
			}
			offsets[i] = r.Offset
		})
	}
	wg.Wait()
	for i, got := range offsets {
		if want := stored[fmt.Sprint(i)]; got != uint64(want) || want == 0 {
			t.Errorf("event %d: got offset %d, want %d", i, got, want)
		}
	}
}

func TestAPublisherPassesOnARefusalForGood(t *testing.T) {
	p := newClient(t, fake(t, func(w http.ResponseWriter, _ *http.Request) { refuse(w, protocol.Unauthorized) })).Publisher()
	if _, err := p.Publish(context.Background(), Message{Topic: "a"}); protocol.CodeOf(err) != protocol.Unauthorized {
		t.Errorf("got %v, want %s", err, protocol.Unauthorized)
	}
	p.Close()
	if _, err := p.Publish(context.Background(), Message{Topic: "a"}); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: got %v, want %v", err, ErrClosed)
	}
}

func TestAFrameIsOneWrite(t *testing.T) {
	client, server := net.Pipe()
	defer func() { _ = client.Close() }()
	k := &socket{conn: client}
	sent := make(chan error, 1)
	go func() { sent <- k.send([]byte("hello")) }()
	buffer := make([]byte, 64)
	_ = server.SetDeadline(time.Now().Add(10 * time.Second))
	n, err := server.Read(buffer) // a pipe's read ends where the write did
	if err != nil || n != 2+4+len("hello") {
		t.Errorf("got %d bytes at once, %v, want a whole frame of 11", n, err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

func FuzzPush(f *testing.F) {
	f.Add(event(1) + "\n" + `{"id":1,"subscribed":{"cursor":"c","gaps":[{"topic":"a"}]}}`)
	f.Add("\n\n{\"gap\":{}}\n{\"drain\":{}}\n{\"id\":1,\"error\":{\"code\":\"forbidden\"}}")
	f.Add("null\n[]\n{")
	f.Fuzz(func(t *testing.T, text string) {
		k := &socket{lines: []byte(text)}
		for len(k.lines) > 0 {
			left := bytes.Count(k.lines, []byte{'\n'})
			p, err := k.push()
			if now := bytes.Count(k.lines, []byte{'\n'}); now != max(left-1, 0) {
				t.Fatalf("%d line breaks became %d", left, now)
			}
			if err == nil && p.Event != nil {
				_, _ = p.Event.Event()
			}
		}
	})
}
