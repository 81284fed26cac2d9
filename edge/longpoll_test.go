package edge

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

func getAt(path string, headers ...string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: x\r\n" + strings.Join(append(headers, "\r\n"), "")
}

func TestLongPollsOfOneCursorShareASubscription(t *testing.T) {
	s := newSite(t, func(o *Options) { o.Loops = 1 })
	at := "/v1/events?topic=a&wait=30s&after=" + s.publishText("a", "0").Cursor
	first := s.raw()
	first.write(getAt(at))
	<-s.opened
	s.waitMetric("pushd_readers 1\n")
	var others []*raw
	for range 10 {
		r := s.raw()
		r.write(getAt(at))
		others = append(others, r)
	}
	s.waitMetric("pushd_readers 11\n")
	s.publishText("a", "1")
	for _, r := range append(others, first) {
		wantTexts(t, r.answer().page().Events, "1")
	}
	if n := len(s.opened); n > 1 {
		t.Errorf("got %d more subscriptions, want that of the second, who made the feed", n)
	}
}

func TestAPollIsAnsweredBeforeTheRequestBehindIt(t *testing.T) {
	s := newSite(t)
	cursor := s.publishText("a", "0").Cursor
	r := s.raw()
	r.write(getAt("/v1/events?topic=a&wait=30s&after="+cursor), getAt("/livez"), getAt("/v1/events?topic=a&after=earliest&wait=1s&limit=1"))
	<-s.opened
	s.publishText("a", "1")
	wantTexts(t, r.answer().page().Events, "1")
	r.answer().want(200)
	p := r.answer().page()
	if wantTexts(t, p.Events, "0"); p.UpToDate || p.Cursor != cursor {
		t.Errorf("got %+v, want the first event alone, with its cursor", p)
	}
}

// tardy is a reader whose partition is elsewhere: it has nothing before another
// node has answered.
type tardy struct {
	reader
	answered <-chan time.Time
	pulled   bool
}

func (r *tardy) Settle(ctx context.Context) {
	select {
	case <-r.answered:
	case <-ctx.Done():
	}
}

func (r *tardy) Pull(limit int) (broker.Batch, error) {
	if !r.pulled {
		r.pulled = true
		return broker.Batch{Cursor: r.Cursor()}, nil
	}
	return r.reader.Pull(limit)
}

func TestAPollThatBeginsWhenItsTimeIsUpPassesNothingOver(t *testing.T) {
	b := newSite(t)
	cursor := b.publishText("a", "0").Cursor
	b.publishText("a", "1")
	slow := time.After(3 * tickLength) // behind the poll's time
	s := serve(t, newServer(b.options, func(list []protocol.Selector, start protocol.Start, so broker.SubscribeOptions) (reader, error) {
		r, err := b.subscribe(list, start, so)
		return &tardy{reader: r, answered: slow}, err
	}))
	r := s.raw()
	r.write(getAt("/v1/events?topic=a&wait=10ms&after=" + cursor))
	wantTexts(t, r.answer().page().Events, "1")
}

func TestAPollThatIsGivenUpIsForgotten(t *testing.T) {
	s := newSite(t)
	r := s.raw()
	r.write(getAt("/v1/events?topic=a&wait=30s"))
	<-s.opened
	_ = r.conn.Close()
	<-s.closed
}

func TestAPollTellsWhatHasNotChanged(t *testing.T) {
	s := newSite(t)
	r := s.raw()
	cursor := s.publishText("a", "0").Cursor
	r.write(getAt("/v1/events?topic=a&wait=1ms&after="+cursor, "If-None-Match: W/\""+cursor+"\"\r\n"))
	r.answer().want(http.StatusNotModified).wantHeader("Pushd-Cursor", cursor)
	r.write(getAt("/v1/events?topic=a&wait=1ms&after="+cursor, "Accept: application/x-ndjson\r\n"))
	a := r.answer().want(200).wantHeader("Content-Type", "application/x-ndjson").wantHeader("Pushd-Up-To-Date", "true")
	if !strings.Contains(a.Header.Get("Link"), "after="+cursor) || a.Header.Get("Date") == "" || a.Body != "" {
		t.Errorf("got %v %q, want a link behind the cursor, a date and no line", a.Header, a.Body)
	}
}

// pipeTo is a connection to a loop in fake time, whose readers are all r.
func pipeTo(t *testing.T, r reader, change ...func(*Options)) *raw {
	var o Options
	for _, f := range change {
		f(&o)
	}
	here := pipeInto(t, serverOf(r, o))
	return &raw{t, here, bufio.NewReader(here)}
}

// pipeInto is a connection to a loop of a server's.
func pipeInto(t *testing.T, s *Server) net.Conn {
	l := newLoop(s, newConns())
	go l.run()
	here, there := net.Pipe()
	l.post(func() { l.accept(incoming{conn: there}) })
	t.Cleanup(func() {
		_ = here.Close()
		l.post(func() { l.stopped = true })
		<-l.done
	})
	return here
}

func TestAPollEndsWhenItsTimeIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &silent{}
		r.move("C1")
		c := pipeTo(t, r)
		began := time.Now()
		c.write(getAt("/v1/events?topic=a&wait=25s"))
		r.move("C2")
		if p := c.answer().page(); len(p.Events) != 0 || p.Cursor != "C2" || time.Since(began) != 25*time.Second {
			t.Errorf("got %+v after %v, want an empty page at C2 after 25 s", p, time.Since(began))
		}
	})
}

func TestAStreamsHeartbeatOnALoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &silent{}
		r.move("C1")
		c := pipeTo(t, r)
		began := time.Now()
		c.write(getAt("/v1/events?topic=a", "Accept: text/event-stream\r\n"))
		resp, err := http.ReadResponse(c.in, nil)
		if err != nil || resp.Header.Get("X-Accel-Buffering") != "no" {
			t.Fatalf("got %v, %v, want a stream", resp, err)
		}
		st := &stream{t: t, in: bufio.NewReader(resp.Body)}
		if got := st.first(); got != "C1" {
			t.Errorf("got %q, want C1", got)
		}
		if got := st.block(); got != ": \n" || time.Since(began) != heartbeat {
			t.Errorf("got %q after %v, want a comment alone after %v", got, time.Since(began), heartbeat)
		}
		r.move("C2")
		if a, b := st.block(), st.block(); a != ": \n" || b != "id: C2\n" {
			t.Errorf("got %q and %q, want the new position, too", a, b)
		}
	})
}

// waitMetric asks until the metrics have a line: loops add up at the end of a turn.
func (s *site) waitMetric(line string) {
	s.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(s.get("/metrics").want(200).Body, line); {
		if time.Now().After(deadline) {
			s.t.Fatalf("the metrics never had %q", line)
		}
	}
}
