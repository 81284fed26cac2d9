package edge

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
)

func TestAPollGivesEventsCursorAndHeaders(t *testing.T) {
	s := newSite(t)
	s.publishText("a.b", "one", "two")
	a := s.get("/v1/topics/a.b/events")
	p := a.page()
	wantTexts(t, p.Events, "one", "two")
	if !p.UpToDate || p.Cursor == "" || p.Events[1].Offset != 2 {
		t.Errorf("got %s, want both events, a cursor and up_to_date", a.Body)
	}
	a.wantHeader("Pushd-Cursor", p.Cursor).wantHeader("ETag", `W/"`+p.Cursor+`"`).wantHeader("Cache-Control", "no-store")
	a.wantHeader("Vary", "Accept, Authorization, If-None-Match").wantHeader("Content-Type", "application/json")
	a.wantHeader("Link", "</v1/topics/a.b/events?after="+url.QueryEscape(p.Cursor)+`>; rel="next"`)
}

func TestAPollWithTheCursorGoesOnBehindIt(t *testing.T) {
	s := newSite(t)
	s.publishText("a", "one", "two", "three")
	p := s.get("/v1/events?topic=a&limit=2").page()
	wantTexts(t, p.Events, "one", "two")
	if p.UpToDate {
		t.Error("up_to_date: got true with an event left, want false")
	}
	wantTexts(t, s.get("/v1/events?topic=a&after="+p.Cursor).page().Events, "three")
	wantTexts(t, s.get("/v1/events?topic=a&after="+p.Events[0].Cursor).page().Events, "two", "three")
}

func TestTopicsMayBeRepeatedOrSeparatedByCommas(t *testing.T) {
	s := newSite(t)
	s.publishText("a", "1")
	s.publishText("b.c", "2")
	s.publishText("b.d.e", "3")
	for _, q := range []string{"topic=a&topic=b.**", "topic=a,b.**", "topic=a,b.c&topic=b.d.*"} {
		if got := len(s.get("/v1/events?" + q).page().Events); got != 3 {
			t.Errorf("%s: got %d events, want 3", q, got)
		}
	}
}

func TestNothingNewIs304OnlyWithTheCurrentCursor(t *testing.T) {
	s := newSite(t)
	s.publishText("a", "1")
	cursor := s.get("/v1/events?topic=a").page().Cursor
	at := "/v1/events?topic=a&after=" + cursor
	s.get(at, "If-None-Match", `W/"`+cursor+`"`).want(304).wantHeader("Pushd-Cursor", cursor)
	s.get(at+"&wait=10ms", "If-None-Match", `"x", W/"`+cursor+`"`).want(304)
	if p := s.get(at).page(); len(p.Events) != 0 || p.Cursor != cursor || !p.UpToDate {
		t.Errorf("without If-None-Match: got %+v, want an empty page", p)
	}
	if p := s.get(at, "If-None-Match", `W/"other"`).page(); len(p.Events) != 0 {
		t.Errorf("another tag: got %+v, want an empty page", p)
	}
	wantTexts(t, s.get("/v1/events?topic=a", "If-None-Match", `W/"`+cursor+`"`).page().Events, "1")
}

func TestALongPollAnswersAtTheFirstEvent(t *testing.T) {
	s := newSite(t)
	got := make(chan protocol.Page, 1)
	began := time.Now()
	go func() { got <- s.get("/v1/events?topic=a&wait=30s").page() }()
	<-s.opened
	s.publishText("a", "now")
	wantTexts(t, (<-got).Events, "now")
	if took := time.Since(began); took > deadline {
		t.Errorf("got the answer after %v, want it with the event", took)
	}
}

func TestALongPollEndsEmptyWhenTimeIsUp(t *testing.T) {
	s := newSite(t)
	if p := s.get("/v1/events?topic=a&wait=20ms").page(); len(p.Events) != 0 || p.Cursor == "" {
		t.Errorf("got %+v, want an empty page with a cursor", p)
	}
}

func TestAClientGoneAwayFreesItsSlotAtOnce(t *testing.T) {
	s := newSite(t)
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/v1/events?topic=a&wait=60s", nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if resp, err := http.DefaultClient.Do(r); err == nil {
			_ = resp.Body.Close()
		}
	}()
	<-s.opened
	cancel()
	<-done
	<-s.closed
}

func TestTheReadersOfANodeAreLimited(t *testing.T) {
	s := newSite(t, func(o *Options) { o.Limits.Readers = 1 })
	s.stream("/v1/events?topic=a")
	s.get("/v1/events?topic=a").wantProblem(protocol.TooManyReaders).wantHeader("Retry-After", "1")
}

func TestMalformedParametersAreRefused(t *testing.T) {
	s := newSite(t)
	for path, want := range map[string]protocol.Code{
		"/v1/events":                         protocol.BadTopic,
		"/v1/events?topic=":                  protocol.BadTopic,
		"/v1/events?topic=a..b":              protocol.BadTopic,
		"/v1/topics/a.*/events":              protocol.BadTopic,
		"/v1/topics/a/events?topic=b":        protocol.BadRequest,
		"/v1/events?topic=a&limit=0":         protocol.BadRequest,
		"/v1/events?topic=a&limit=1001":      protocol.BadRequest,
		"/v1/events?topic=a&limit=x":         protocol.BadRequest,
		"/v1/events?topic=a&wait=5":          protocol.BadRequest,
		"/v1/events?topic=a&wait=-1s":        protocol.BadRequest,
		"/v1/events?topic=a&on_gap=panic":    protocol.BadRequest,
		"/v1/events?topic=a&after=nonsense":  protocol.BadCursor,
		"/v1/events?topic=a&after=@nonsense": protocol.BadCursor,
		"/v1/events?topic=%zz":               protocol.BadRequest,
	} {
		s.get(path).wantProblem(want)
		if want != protocol.BadRequest || !strings.Contains(path, "limit") {
			s.get(path, "Accept", "text/event-stream").wantProblem(want)
		}
	}
	s.get("/v1/events?topic=a&unknown=1").want(200)
}

func TestStartPositions(t *testing.T) {
	s := newSite(t)
	s.publishText("a", "1", "2", "3")
	for after, want := range map[string]int{"": 3, "earliest": 3, "latest": 0, "-2": 2, "@1h": 3, "@2000-01-01T00:00:00Z": 3, "@4000000000": 0} {
		if got := len(s.get("/v1/events?topic=a&after=" + after).page().Events); got != want {
			t.Errorf("after=%s: got %d events, want %d", after, got, want)
		}
	}
}

func TestAPublishsCursorStartsRightBehindTheEvent(t *testing.T) {
	s := newSite(t)
	p := s.publishText("a", "1")
	s.publishText("a", "2")
	wantTexts(t, s.get("/v1/events?topic=a&after="+p.Cursor).page().Events, "2")
}

func TestNDJSONGivesAnEnvelopeALine(t *testing.T) {
	s := newSite(t)
	s.publishText("a", "1\n2", "3")
	a := s.get("/v1/events?topic=a", "Accept", "application/x-ndjson").want(200)
	if lines := strings.Split(a.Body, "\n"); len(lines) != 3 || !strings.HasPrefix(lines[0], `{"topic":"a","offset":1,`) || lines[2] != "" {
		t.Errorf("got %q, want two lines", a.Body)
	}
	a.wantHeader("Content-Type", "application/x-ndjson").wantHeader("Pushd-Up-To-Date", "true")
}

func TestAnUnknownFormatIsRefused(t *testing.T) {
	s := newSite(t)
	s.get("/v1/events?topic=a", "Accept", "application/xml").wantProblem(protocol.NotAcceptable)
	s.get("/v1/events?topic=a", "Accept", "text/html,*/*;q=0.8").want(200)
	s.get("/v1/events?topic=a", "Accept", "application/json;q=0").wantProblem(protocol.NotAcceptable)
}

func TestExpiredEventsAreReportedAsAGap(t *testing.T) {
	s := newSite(t)
	first := s.publishText("few.a", "1")
	s.publishText("few.a", "2", "3", "4", "5", "6")
	at := "/v1/events?topic=few.a&after=" + first.Cursor
	p := s.get(at).page()
	wantTexts(t, p.Events, "5", "6")
	want := protocol.Gap{Topic: "few.a", Epoch: first.Epoch, From: 2, To: 4, Reason: protocol.GapExpired}
	if len(p.Gaps) != 1 || p.Gaps[0] != want {
		t.Errorf("gaps: got %+v, want %+v", p.Gaps, want)
	}
	s.get(at + "&on_gap=error").wantProblem(protocol.EventsGone)
	s.get(at+"&on_gap=error", "Accept", "text/event-stream").wantProblem(protocol.EventsGone)
	if body := s.get(at, "Accept", "application/x-ndjson").Body; !strings.HasPrefix(body, `{"gap":{"topic":"few.a",`) {
		t.Errorf("ndjson: got %s, want the gap's line first", body)
	}
}

func TestHeadIsServedWhereGetIs(t *testing.T) {
	s := newSite(t)
	s.publishText("a", "1")
	for _, path := range []string{"/v1/events?topic=a&wait=60s", "/v1/topics", "/v1/topics/a", "/livez", "/console/", "/pushd.js"} {
		if a := s.do(http.MethodHead, path, "").want(200); a.Body != "" {
			t.Errorf("HEAD %s: got a body %q", path, a.Body)
		}
	}
	s.do(http.MethodHead, "/v1/events?topic=a", "", "Accept", "text/event-stream").want(200)
}
