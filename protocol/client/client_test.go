package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pushd/pushd/protocol"
)

// fake is a server that answers as the test says.
func fake(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func newClient(t *testing.T, servers ...string) *Client {
	t.Helper()
	c, err := New(Options{Servers: servers, MaxWait: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func refuse(w http.ResponseWriter, code protocol.Code) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(code.Status())
	_ = json.NewEncoder(w).Encode(protocol.Problem{Status: code.Status(), Code: code, Detail: "as the test says"})
}

func TestAPublishIsTriedAtTheNextServerWithTheSameID(t *testing.T) {
	var ids []string
	var mu sync.Mutex
	note := func(r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		ids = append(ids, r.Header.Get("Pushd-Event-Id"))
	}
	down := fake(t, func(w http.ResponseWriter, r *http.Request) {
		note(r)
		refuse(w, protocol.NoLeader)
	})
	up := fake(t, func(w http.ResponseWriter, r *http.Request) {
		note(r)
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"topic":"a","offset":7,"id":"x"}`)
	})
	result, err := newClient(t, down, "http://127.0.0.1:1", up).Publish(context.Background(), Message{Topic: "a"})
	if err != nil || result.Offset != 7 || len(ids) != 2 || ids[0] == "" || ids[0] != ids[1] {
		t.Errorf("got %+v, %v, over the ids %q; want offset 7 over one id twice", result, err, ids)
	}
}

func TestARefusalThatStaysIsNotTriedAgain(t *testing.T) {
	tries := 0
	c := newClient(t, fake(t, func(w http.ResponseWriter, _ *http.Request) {
		tries++
		refuse(w, protocol.OffsetMismatch)
	}))
	if _, err := c.Publish(context.Background(), Message{Topic: "a"}); protocol.CodeOf(err) != protocol.OffsetMismatch || tries != 1 {
		t.Errorf("got %v after %d tries, want %s after 1", err, tries, protocol.OffsetMismatch)
	}
}

func TestPublishAllGoesOnFromTheFirstThatFailed(t *testing.T) {
	var stored []string
	requests := 0
	c := newClient(t, fake(t, func(w http.ResponseWriter, r *http.Request) {
		requests++
		var results []protocol.PublishResult
		lines := bufio.NewScanner(r.Body)
		for n := 0; lines.Scan(); n++ {
			var v protocol.Envelope
			if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
				t.Errorf("line %q: %v", lines.Text(), err)
			}
			if requests < 3 && n == 2 || len(results) > 0 && results[len(results)-1].Error != nil {
				results = append(results, protocol.PublishResult{Error: &protocol.Problem{Code: protocol.NoLeader}})
				continue
			}
			stored = append(stored, string(v.Data))
			results = append(results, protocol.PublishResult{Offset: uint64(len(stored))})
		}
		w.WriteHeader(http.StatusMultiStatus)
		_ = json.NewEncoder(w).Encode(protocol.BatchResult{Results: results})
	}))
	var messages []Message
	var want []string
	for i := range 9 {
		messages = append(messages, Message{Topic: "a", Data: fmt.Append(nil, i)})
		want = append(want, fmt.Sprintf("%q", fmt.Sprint(i)))
	}
	results, err := c.PublishAll(context.Background(), messages)
	if err != nil || len(results) != 9 || requests != 3 || strings.Join(stored, " ") != strings.Join(want, " ") {
		t.Errorf("got %d results, %v, over %d requests, stored %q; want 9 in order over 3", len(results), err, requests, stored)
	}
}

// page answers a poll behind after with the events up to there.
func page(after string, upTo int) protocol.Page {
	var from int
	_, _ = fmt.Sscanf(after, "c%d", &from)
	p := protocol.Page{Events: []protocol.Envelope{}, UpToDate: true}
	for i := from + 1; i <= upTo; i++ {
		p.Events = append(p.Events, protocol.Envelope{Topic: "a", Offset: uint64(i), Data: json.RawMessage("1"), Cursor: fmt.Sprint("c", i)})
	}
	p.Cursor = fmt.Sprint("c", upTo)
	return p
}

func TestReadersComeBackWithTheirCursor(t *testing.T) {
	for _, via := range []Via{SSE, LongPoll, Poll} {
		requests := 0
		server := fake(t, func(w http.ResponseWriter, r *http.Request) {
			requests++
			if requests%2 == 0 {
				refuse(w, protocol.ShuttingDown) // every other try fails
				return
			}
			p := page(r.URL.Query().Get("after"), requests)
			if via != SSE {
				_ = json.NewEncoder(w).Encode(p)
				return
			}
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "retry: 1\n\n: hello\n\n")
			for _, e := range p.Events {
				line, _ := json.Marshal(e)
				_, _ = w.Write(protocol.AppendSSE(nil, e.Cursor, "", line))
			}
		})
		s, err := newClient(t, server).Subscribe(SubscribeOptions{Topics: []string{"a"}, After: "c0", Via: via, PollEvery: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		for want := uint64(1); want <= 5; want++ {
			d, err := s.Next(context.Background())
			if err != nil || d.Event.Offset != want {
				t.Fatalf("over %s: got %+v, %v, want offset %d", via, d.Event, err, want)
			}
		}
		if s.Cursor() != "c5" {
			t.Errorf("over %s: got cursor %s, want c5", via, s.Cursor())
		}
		s.Close()
	}
}

func TestAReaderEndsWhereComingBackWouldNotHelp(t *testing.T) {
	for name, c := range map[string]struct {
		via    Via
		answer http.HandlerFunc
		want   func(error) bool
	}{
		"204":                   {SSE, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, func(err error) bool { return errors.Is(err, ErrEnded) }},
		"bad cursor over SSE":   {SSE, func(w http.ResponseWriter, _ *http.Request) { refuse(w, protocol.BadCursor) }, is(protocol.BadCursor)},
		"bad cursor over polls": {Poll, func(w http.ResponseWriter, _ *http.Request) { refuse(w, protocol.BadCursor) }, is(protocol.BadCursor)},
		"another program":       {LongPoll, http.NotFound, isStrange},
		"another kind of 200":   {SSE, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, isStrange},
		"refused WebSocket":     {WebSocket, func(w http.ResponseWriter, _ *http.Request) { refuse(w, protocol.Forbidden) }, is(protocol.Forbidden)},
		"error on SSE": {SSE, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "event: pushd.error\ndata: {\"code\":\"events_gone\",\"message\":\"gone\"}\n\n")
		}, is(protocol.EventsGone)},
	} {
		s, err := newClient(t, fake(t, c.answer)).Subscribe(SubscribeOptions{Topics: []string{"a"}, Via: c.via})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Next(context.Background()); !c.want(err) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func isStrange(err error) bool {
	_, ok := errors.AsType[*strangeAnswer](err)
	return ok
}

func is(code protocol.Code) func(error) bool {
	return func(err error) bool { return protocol.CodeOf(err) == code }
}

func TestGapsAreGivenBeforeTheEventsBehindThem(t *testing.T) {
	server := fake(t, func(w http.ResponseWriter, _ *http.Request) {
		p := page("c7", 8)
		p.Gaps = []protocol.Gap{{Topic: "a", From: 2, To: 7}}
		_ = json.NewEncoder(w).Encode(p)
	})
	s, err := newClient(t, server).Subscribe(SubscribeOptions{Topics: []string{"a"}, Via: Poll, After: "c1"})
	if err != nil {
		t.Fatal(err)
	}
	first, _ := s.Next(context.Background())
	second, _ := s.Next(context.Background())
	if first.Gap == nil || first.Gap.To != 7 || second.Event == nil || second.Event.Offset != 8 {
		t.Errorf("got %+v, then %+v, want the gap to 7, then offset 8", first, second)
	}
}

func FuzzReadBlock(f *testing.F) {
	f.Add("id: a\nevent: x\ndata: 1\ndata: 2\n\n")
	f.Add(": c\n\ndata\ndata:\n\n")
	f.Add("event: pushd.gap\ndata: {\"from\":1}\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		r := bufio.NewReaderSize(strings.NewReader(text), 16)
		for range 100 {
			blk, err := readBlock(r)
			if err != nil {
				return
			}
			_, _ = blk.batch()
		}
	})
}

func FuzzReadLine(f *testing.F) {
	f.Add("a\r\nb\n\n")
	f.Add("data: longer than the reader's buffer, by far\n\r\n")
	f.Add("no end")
	f.Fuzz(func(t *testing.T, text string) {
		r := bufio.NewReaderSize(strings.NewReader(text), 16)
		for want := range strings.Lines(text) {
			end, whole := strings.CutSuffix(want, "\n")
			got, err := readLine(r)
			if whole != (err == nil) {
				t.Fatalf("%q: got %v", want, err)
			}
			if whole && string(got) != strings.TrimSuffix(end, "\r") {
				t.Fatalf("%q: got %q", want, got)
			}
		}
	})
}

func TestServersThatNeverAnsweredAreGivenUp(t *testing.T) {
	c, err := New(Options{Servers: []string{"http://127.0.0.1:1"}, Search: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Publish(context.Background(), Message{Topic: "a"}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("publish: got %v, want %v", err, ErrUnreachable)
	}
	for _, via := range []Via{WebSocket, SSE, LongPoll, Poll} {
		s, err := c.Subscribe(SubscribeOptions{Topics: []string{"a"}, Via: via})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Next(context.Background()); !errors.Is(err, ErrUnreachable) {
			t.Errorf("subscribe over %s: got %v, want %v", via, err, ErrUnreachable)
		}
	}
}

func TestATryCutShortIsNotCalledAnUnreachableServer(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c := newClient(t, fake(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		cancel()
		<-r.Context().Done()
	}))
	if _, err := c.Publish(ctx, Message{Topic: "a"}); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnreachable) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestAQuestionPassesOverAServerThatIsShuttingDown(t *testing.T) {
	leaving := fake(t, func(w http.ResponseWriter, _ *http.Request) { refuse(w, protocol.ShuttingDown) })
	up := fake(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"topic":"a","events":3}`) })
	info, err := newClient(t, leaving, up).Topic(context.Background(), "a")
	if err != nil || info.Events != 3 {
		t.Errorf("got %+v, %v, want 3 events", info, err)
	}
	if _, err := newClient(t, leaving).Topic(context.Background(), "a"); protocol.CodeOf(err) != protocol.ShuttingDown {
		t.Errorf("got %v, want %s", err, protocol.ShuttingDown)
	}
}

func TestManyEventsAreCutIntoRequestsThatAServerTakes(t *testing.T) {
	var sizes []int
	c := newClient(t, fake(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		n := strings.Count(string(body), "\n")
		sizes = append(sizes, n)
		_ = json.NewEncoder(w).Encode(protocol.BatchResult{Results: make([]protocol.PublishResult, n)})
	}))
	if results, err := c.PublishAll(context.Background(), slices.Repeat([]Message{{Topic: "a"}}, 2500)); err != nil || len(results) != 2500 || fmt.Sprint(sizes) != "[1000 1000 500]" {
		t.Errorf("got %d results, %v, over requests of %d; want 2500 over 1000, 1000 and 500", len(results), err, sizes)
	}
	sizes = nil
	big := Message{Topic: "a", Data: make([]byte, 3<<20), ContentType: "text/plain"}
	if results, err := c.PublishAll(context.Background(), []Message{big, big}); err != nil || len(results) != 2 || fmt.Sprint(sizes) != "[1 1]" {
		t.Errorf("got %d results, %v, over requests of %d; want 2 over one each", len(results), err, sizes)
	}
}

func TestIDsAreUUIDsThatSortByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
		last := ""
		for range 100 {
			id := newID()
			if !form.MatchString(id) || id <= last {
				t.Errorf("got %q behind %q, want a UUIDv7 that sorts behind it", id, last)
			}
			last = id
			time.Sleep(time.Millisecond)
		}
	})
}

func BenchmarkNewID(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_ = newID()
	}
}

func BenchmarkPublishCommand(b *testing.B) {
	b.ReportAllocs()
	m := Message{Topic: "orders.eu", Data: bytes.Repeat([]byte("x"), 256), ContentType: "text/plain"}
	for b.Loop() {
		one := m
		if err := one.check(); err != nil {
			b.Fatal(err)
		}
		_ = publishCommand(1, &one)
	}
}
