package edge

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pushd/pushd/broker"
)

func TestShortPollsAreAnsweredOnTheLoop(t *testing.T) {
	s := newSite(t)
	cursor := s.publishText("a", "0").Cursor
	handed := s.metrics.handed.Load()
	r := s.raw()
	r.write(
		getAt("/v1/events?topic=a"),
		getAt("/v1/events?topic=a&after="+cursor),
		getAt("/v1/topics/a/events?after="+cursor, "If-None-Match: W/\""+cursor+"\"\r\n"),
		getAt("/v1/events?topic=a", "Accept: application/x-ndjson\r\n", "Origin: http://x\r\n"),
		getAt("/v1/events?topic=a&limit=0"),
		getAt("/v1/events?topic=a", "Connection: close\r\n"),
	)
	first := r.answer().want(http.StatusOK).wantHeader("Content-Type", "application/json").wantHeader("Cache-Control", "no-store").wantHeader("Vary", readVary)
	wantTexts(t, first.page().Events, "0")
	first.wantHeader("Pushd-Cursor", cursor).wantHeader("ETag", `W/"`+cursor+`"`).wantHeader("Link", "</v1/events?after="+cursor+`&topic=a>; rel="next"`)
	wantTexts(t, r.answer().page().Events)
	r.answer().want(http.StatusNotModified).wantHeader("Pushd-Cursor", cursor).wantHeader("X-Content-Type-Options", "nosniff")
	lines := r.answer().want(http.StatusOK).wantHeader("Content-Type", "application/x-ndjson").wantHeader("Pushd-Up-To-Date", "true")
	if n := strings.Count(lines.Body, "\n"); n != 1 {
		t.Errorf("got %d lines, want 1: %q", n, lines.Body)
	}
	r.answer().want(http.StatusBadRequest)
	r.answer().want(http.StatusOK)
	if _, err := r.in.ReadByte(); err == nil {
		t.Error("the connection goes on, want its end")
	}
	if n := s.metrics.handed.Load() - handed; n != 0 {
		t.Errorf("%d connections were given to net/http, want none", n)
	}
	s.waitMetric("pushd_readers 0\n")
}

// unsettled is a reader whose node has yet to hear of something.
type unsettled struct{ silent }

func (*unsettled) Settled() bool { return false }

func (u *unsettled) Settle(context.Context) {
	<-time.After(300 * time.Millisecond)
	u.move("settled")
}

func TestAShortPollWaitsForWhatItMustSee(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &unsettled{}
		r.move("unsettled")
		c := pipeTo(t, r)
		c.write(getAt("/v1/events?topic=a"), getAt("/v1/events?topic=b"))
		for range 2 {
			if p := c.answer().page(); p.Cursor != "settled" {
				t.Errorf("got a page at %s, want it where the node knows everything", p.Cursor)
			}
		}
	})
}

func TestTheNextLinkAsksTheSameBehindTheCursor(t *testing.T) {
	for target, want := range map[string]string{
		"/v1/events?topic=a":                                   "/v1/events?after=C&topic=a",
		"/v1/topics/a.b/events":                                "/v1/topics/a.b/events?after=C",
		"/v1/events?after=B&topic=a,b.**&limit=5&ticket=t":     "/v1/events?after=C&topic=a,b.**&limit=5",
		"/v1/events?after&&topic=a":                            "/v1/events?after=C&topic=a",
		"/v1/events?topic=a&x=%3E%22&after=B":                  "/v1/events?after=C&topic=a&x=%3E%22",
		"/v1/events?topic=a&x=>\"&ticket=t":                    "/v1/events?after=C&topic=a&x=%3E%22",
		"http://host/v1/events?topic=a":                        "/v1/events?after=C&topic=a",
		"/v1/events?topic=a&%61fter=B&t%69cket=t":              "/v1/events?after=C&topic=a",
		"/v1/events?topic=a&topic=b&wait=25s&presence=1&x=a+b": "/v1/events?after=C&presence=1&topic=a&topic=b&wait=25s&x=a+b",
	} {
		got := string(appendNextLink(nil, target, "C"))
		if got != "<"+want+`>; rel="next"` {
			t.Errorf("%s: got %s, want %s", target, got, want)
		}
		if _, err := url.ParseRequestURI(strings.TrimSuffix(strings.TrimPrefix(got, "<"), `>; rel="next"`)); err != nil {
			t.Errorf("%s: the link is no target: %v", target, err)
		}
	}
}

func TestAPollsAnswerIsMadeInPlace(t *testing.T) {
	p := &waiting{target: "/v1/events?topic=a&after=C", tags: []string{`W/"C"`}}
	dst := make([]byte, 0, 4<<10)
	for name, b := range map[string]*broker.Batch{"304": {Cursor: "C"}, "200": {Cursor: "D"}} {
		if n := testing.AllocsPerRun(100, func() { dst = p.appendAnswer(dst[:0], b) }); n > 1 { // the joined tags
			t.Errorf("%s: got %v allocations, want 1 at most", name, n)
		}
	}
}

func BenchmarkPollAnswer(b *testing.B) {
	p := &waiting{target: "/v1/events?topic=a&after=C", tags: []string{`W/"C"`}}
	dst := make([]byte, 0, 4<<10)
	b.ReportAllocs()
	for b.Loop() {
		dst = p.appendAnswer(dst[:0], &broker.Batch{Cursor: "C"})
	}
}
