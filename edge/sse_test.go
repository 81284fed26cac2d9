package edge

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

func TestAnSSEStreamBeginsWithRetryCommentAndPosition(t *testing.T) {
	s := newSite(t)
	st := s.stream("/v1/events?topic=a")
	if got := st.block(); got != "retry: 2000\n: pushd\n" {
		t.Errorf("first block: got %q", got)
	}
	cursor := s.get("/v1/events?topic=a").page().Cursor
	if got := st.block(); got != "id: "+cursor+"\n" {
		t.Errorf("second block: got %q, want the id %q alone", got, cursor)
	}
	for name, want := range map[string]string{"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"} {
		if got := st.resp.Header.Get(name); got != want {
			t.Errorf("header %s: got %q, want %q", name, got, want)
		}
	}
}

func TestAnSSEEventHasIdTypeAndRawData(t *testing.T) {
	s := newSite(t)
	st := s.stream("/v1/topics/a/events")
	st.first()
	s.do(http.MethodPost, "/v1/topics/a/events", "one\n two\n", "Pushd-Event-Type", "greeting").want(201)
	id, rest, _ := strings.Cut(st.block(), "\n")
	if want := "event: greeting\ndata: one\ndata:  two\ndata: \n"; rest != want || !strings.HasPrefix(id, "id: ") {
		t.Errorf("got %q and %q, want an id and %q", id, rest, want)
	}
}

func TestBinaryAndCarriageReturnsComeEnveloped(t *testing.T) {
	s := newSite(t)
	st := s.stream("/v1/events?topic=a")
	st.first()
	for _, data := range []string{"\xff\x00", "a\rb"} {
		s.do(http.MethodPost, "/v1/topics/a/events", data).want(201)
		if got := st.block(); !strings.Contains(got, "event: pushd.envelope\ndata: {\"topic\":\"a\"") {
			t.Errorf("%q: got %q, want an envelope", data, got)
		}
	}
}

func TestEnvelopesKeepTheEventsType(t *testing.T) {
	s := newSite(t)
	st := s.stream("/v1/events?topic=a&envelope=1")
	st.first()
	s.do(http.MethodPost, "/v1/topics/a/events", "x", "Pushd-Event-Type", "t").want(201)
	s.do(http.MethodPost, "/v1/topics/a/events", "y").want(201)
	if got := st.block(); !strings.Contains(got, "\nevent: t\ndata: {\"topic\":\"a\",\"offset\":1,") {
		t.Errorf("got %q, want the type and an envelope", got)
	}
	if got := st.block(); !strings.Contains(got, "\ndata: {\"topic\":\"a\",\"offset\":2,") || strings.Contains(got, "event:") {
		t.Errorf("got %q, want an envelope without event:", got)
	}
}

func TestAStreamResumesFromTheNewestOfItsPositions(t *testing.T) {
	s := newSite(t)
	var cursors []string
	for _, data := range []string{"1", "2", "3", "4", "5"} {
		cursors = append(cursors, s.publishText("a", data).Cursor)
	}
	for _, c := range []struct{ query, header, want string }{
		{"&after=" + cursors[0], "", "2"},
		{"&after=" + cursors[0] + "&lastEventId=" + cursors[1], "", "3"},
		{"&after=" + cursors[0] + "&lastEventId=" + cursors[1] + "&last_event_id=" + cursors[2], "", "4"},
		{"&after=" + cursors[0] + "&last_event_id=" + cursors[2], cursors[3], "5"},
	} {
		st := s.stream("/v1/events?topic=a"+c.query, "Last-Event-ID", c.header)
		st.first()
		if got := st.block(); !strings.HasSuffix(got, "data: "+c.want+"\n") {
			t.Errorf("%s %s: got %q, want event %s", c.query, c.header, got, c.want)
		}
		st.stop()
	}
	s.get("/v1/events?topic=a", "Accept", "text/event-stream", "Last-Event-ID", "junk").wantProblem(protocol.BadCursor)
}

func TestACursorMovesBetweenTransports(t *testing.T) {
	s := newSite(t)
	s.publishText("a", "1", "2", "3", "4")
	at := s.get("/v1/events?topic=a&limit=1").page().Cursor
	st := s.stream("/v1/events?topic=a&after=" + at)
	st.first()
	id, _, _ := strings.Cut(st.block(), "\n")
	c := s.dialJSON("/v1/events?topic=a&after=" + strings.TrimPrefix(id, "id: "))
	c.push()
	e := c.event()
	wantTexts(t, []protocol.Envelope{e}, "3")
	wantTexts(t, s.get("/v1/events?topic=a&after="+e.Cursor).page().Events, "4")
}

func TestAGapOnAStreamHasAnId(t *testing.T) {
	s := newSite(t)
	first := s.publishText("few.a", "1")
	s.publishText("few.a", "2", "3", "4", "5")
	st := s.stream("/v1/events?topic=few.a&after=" + first.Cursor)
	st.first()
	got := st.block()
	if !strings.HasPrefix(got, "id: ") || !strings.Contains(got, "\nevent: pushd.gap\ndata: {\"topic\":\"few.a\",") {
		t.Errorf("got %q, want pushd.gap with an id", got)
	}
}

func TestEphemeralEventsHaveNoId(t *testing.T) {
	s := newSite(t)
	st := s.stream("/v1/events?topic=a")
	st.first()
	s.do(http.MethodPost, "/v1/topics/a/events", "typing", "Pushd-Ack", "none").want(202)
	if got := st.block(); got != "data: typing\n" {
		t.Errorf("got %q, want the data alone", got)
	}
	if n := len(s.get("/v1/events?topic=a").page().Events); n != 0 {
		t.Errorf("stored: got %d events, want none", n)
	}
}

func TestADeletedTopicEndsItsStreamsForGood(t *testing.T) {
	s := newSite(t)
	s.publishText("a", "1")
	st := s.stream("/v1/events?topic=a")
	st.first()
	s.do(http.MethodDelete, "/v1/topics/a", "").want(204)
	st.wantEnd()
	s.get("/v1/events?topic=a", "Accept", "text/event-stream").want(204)
	s.publishText("a", "again")
	s.stream("/v1/events?topic=a&after=earliest")
}

func TestADrainTellsStreamsWhenToComeBack(t *testing.T) {
	s := newSite(t)
	st := s.stream("/v1/events?topic=a")
	st.first()
	poll := make(chan answer, 1)
	<-s.opened
	go func() { poll <- s.get("/v1/events?topic=a&wait=30s") }()
	<-s.opened
	if err := s.Shutdown(context.Background()); err != nil {
		t.Errorf("Shutdown: got %v, want nil", err)
	}
	got := st.block()
	if !strings.HasPrefix(got, "retry: ") || !strings.Contains(got, "event: pushd.drain\ndata: {\"after_ms\":") {
		t.Errorf("got %q, want pushd.drain with retry", got)
	}
	st.wantEnd()
	if p := (<-poll).page(); len(p.Events) != 0 {
		t.Errorf("long poll: got %+v, want an empty page", p)
	}
}

// silent is a reader whose position moves without an event.
type silent struct{ at atomic.Pointer[string] }

func (s *silent) Pull(int) (broker.Batch, error) {
	return broker.Batch{UpToDate: true, Cursor: s.Cursor()}, nil
}
func (*silent) Arm(func()) bool      { return true }
func (s *silent) Cursor() string     { return *s.at.Load() }
func (s *silent) move(cursor string) { s.at.Store(&cursor) }
func (*silent) Close()               {}
func (*silent) Alone() bool          { return false }
func (*silent) Selectors() []protocol.Selector {
	s, _ := protocol.ParseSelectors([]string{"a"})
	return s
}
func (*silent) Settle(context.Context) {}
func (*silent) Settled() bool          { return true }
func (*silent) Done() bool             { return false }

// serverOf is a server whose readers are all r.
func serverOf(r reader, o Options) *Server {
	return newServer(o, func([]protocol.Selector, protocol.Start, broker.SubscribeOptions) (reader, error) { return r, nil })
}

func TestHeartbeatsShowAPositionThatMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &silent{}
		r.move("C1")
		s := serverOf(r, Options{})
		w := &recorder{wrote: make(chan string, 10), header: http.Header{}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "/v1/events?topic=a", nil)
			req.Header.Set("Accept", "text/event-stream")
			s.ServeHTTP(w, req)
		}()
		if got := <-w.wrote; !strings.HasSuffix(got, "id: C1\n\n") {
			t.Errorf("got %q, want the first position", got)
		}
		if got := <-w.wrote; got != ": \n\n" {
			t.Errorf("heartbeat: got %q, want a comment alone", got)
		}
		r.move("C2")
		if got := <-w.wrote; got != ": \n\nid: C2\n\n" {
			t.Errorf("heartbeat: got %q, want the new position, too", got)
		}
		cancel()
		<-done
	})
}

// recorder is a response writer that tells what was written.
type recorder struct {
	header http.Header
	wrote  chan string
}

func (r *recorder) Header() http.Header { return r.header }
func (r *recorder) WriteHeader(int)     {}
func (r *recorder) Flush()              {}
func (r *recorder) Write(b []byte) (int, error) {
	r.wrote <- string(b)
	return len(b), nil
}

// distant is a reader whose partition answers only after a while.
type distant struct{ silent }

func (d *distant) Settle(context.Context) {
	d.move("resolved")
}

func TestAStreamsFirstPositionWaitsForDistantPartitions(t *testing.T) {
	r := &distant{}
	r.move("unresolved")
	f, err := newFollower(t.Context(), r, func() {})
	if err != nil || f.given != "resolved" {
		t.Errorf("got %q (%v), want the position that the other node named", f.given, err)
	}
}
