package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pushd/pushd/protocol"
)

// topicLog is a topic of a fake server: it stores in order, knows ids, and
// attempts nothing behind an event that failed.
type topicLog struct {
	mu       sync.Mutex
	ids      map[string]uint64
	data     []string
	requests int
	fail     func(request, n int) bool
}

func (l *topicLog) serve(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests++
	var results []protocol.PublishResult
	failed := false
	lines := json.NewDecoder(r.Body)
	for n := 0; lines.More(); n++ {
		var v protocol.Envelope
		if err := lines.Decode(&v); err != nil {
			refuse(w, protocol.BadJSON)
			return
		}
		if failed = failed || l.fail(l.requests, n); failed {
			results = append(results, protocol.PublishResult{Error: &protocol.Problem{Code: protocol.NoLeader}})
			continue
		}
		offset, known := l.ids[v.ID]
		if !known {
			l.data = append(l.data, string(v.Data))
			offset = uint64(len(l.data))
			l.ids[v.ID] = offset
		}
		results = append(results, protocol.PublishResult{Topic: v.Topic, ID: v.ID, Offset: offset, Duplicate: known})
	}
	_ = json.NewEncoder(w).Encode(protocol.BatchResult{Results: results})
}

func TestAWriterKeepsOrderOverServersThatDieAndRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const events = 3000
		l := &topicLog{ids: map[string]uint64{}, fail: func(request, n int) bool { return request%3 == 1 && n == 40 }}
		dies := func(w http.ResponseWriter, r *http.Request) {
			l.serve(discard{}, r) // stored, and the answer is lost
			panic(http.ErrAbortHandler)
		}
		c := inBubble(t, Options{Servers: []string{"http://dies", "http://up", "http://gone"}}, map[string]http.HandlerFunc{"dies": dies, "up": l.serve})
		var offsets []uint64
		w := c.Writer(func(r protocol.PublishResult) { offsets = append(offsets, r.Offset) })
		defer w.Close()
		for i := range events {
			if err := w.Write(context.Background(), Message{Topic: "a", Data: fmt.Append(nil, i)}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		for i := range events {
			if l.data[i] != fmt.Sprintf(`"%d"`, i) || offsets[i] != uint64(i+1) {
				t.Fatalf("event %d: got %s at offset %d", i, l.data[i], offsets[i])
			}
		}
		if len(l.data) != events || l.requests < events/writerEvents {
			t.Errorf("got %d events over %d requests, want %d", len(l.data), l.requests, events)
		}
	})
}

// discard is where the answer of a server goes that dies.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}

func TestAnEventThatComesAloneIsSentAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &topicLog{ids: map[string]uint64{}, fail: func(int, int) bool { return false }}
		w := inBubble(t, Options{Servers: []string{"http://up"}}, map[string]http.HandlerFunc{"up": l.serve}).Writer(nil)
		defer w.Close()
		for n := 1; n <= 3; n++ {
			if err := w.Write(context.Background(), Message{Topic: "a"}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if len(l.data) != n {
				t.Errorf("got %d events stored, want %d", len(l.data), n)
			}
		}
	})
}

func TestAWriterBlocksWhileAsMuchAsARequestTakesIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := inBubble(t, Options{Servers: []string{"http://one"}}, map[string]http.HandlerFunc{"one": hang}).Writer(nil)
		defer w.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		n := 0
		for ; w.Write(ctx, Message{Topic: "a", Data: make([]byte, 64<<10), ContentType: "text/plain"}) == nil; n++ {
			synctest.Wait() // the first is under way
		}
		if want := 1 + writerBytes/(64<<10); n != want || ctx.Err() == nil {
			t.Errorf("got %d events taken, want %d", n, want)
		}
		if err := w.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("flush: got %v, want %v", err, context.DeadlineExceeded)
		}
		w.Close()
		if err := w.Write(context.Background(), Message{Topic: "a"}); !errors.Is(err, ErrClosed) && !errors.Is(err, context.Canceled) {
			t.Errorf("after Close: got %v, want %v", err, ErrClosed)
		}
	})
}

func TestAnEventThatNoServerTakesEndsAWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := inBubble(t, Options{Servers: []string{"http://one"}}, map[string]http.HandlerFunc{
			"one": func(w http.ResponseWriter, _ *http.Request) { refuse(w, protocol.Forbidden) },
		})
		w := c.Writer(nil)
		defer w.Close()
		if err := w.Write(context.Background(), Message{Topic: "a"}); err != nil {
			t.Fatal(err)
		}
		<-w.Done()
		if err := w.Flush(context.Background()); protocol.CodeOf(err) != protocol.Forbidden {
			t.Errorf("got %v, want %s", err, protocol.Forbidden)
		}
	})
}

func TestWhatNoServerWouldTakeIsRefusedBeforeItIsSent(t *testing.T) {
	c := newClient(t, fake(t, func(http.ResponseWriter, *http.Request) { t.Error("a request was made") }))
	p, w := c.Publisher(), c.Writer(nil)
	defer p.Close()
	defer w.Close()
	offset := uint64(1)
	for _, m := range []Message{
		{Topic: "a..b"},
		{Topic: "a", ContentType: "application/json", Data: []byte("{")},
		{Topic: "a", Headers: map[string]string{"x": "a\nb"}},
		{Topic: "a", Type: "pushd.gap"},
		{Topic: "a", IfMatch: &offset, ID: strings.Repeat("x", 300)},
	} {
		if _, err := c.Publish(context.Background(), m); err == nil {
			t.Errorf("Publish took %+v", m)
		}
		if _, err := c.PublishAll(context.Background(), []Message{m}); err == nil {
			t.Errorf("PublishAll took %+v", m)
		}
		if _, err := p.Publish(context.Background(), m); err == nil {
			t.Errorf("Publisher took %+v", m)
		}
		if err := w.Write(context.Background(), m); err == nil {
			t.Errorf("Writer took %+v", m)
		}
	}
	if _, err := c.Publish(context.Background(), Message{Topic: "a", Headers: map[string]string{"a b": "x"}}); protocol.CodeOf(err) != protocol.BadHeader {
		t.Errorf("got %v, want %s", err, protocol.BadHeader)
	}
}
