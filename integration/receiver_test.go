package integration

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
)

// receiver is an endpoint: it notes what comes, and answers as it is told.
type receiver struct {
	t      testing.TB
	server *httptest.Server
	answer func(n int, d delivery) int // status of the n-th request, from 1; nil: 200

	mu   sync.Mutex // guards what follows
	got  []delivery
	news chan struct{} // capacity 1
}

// delivery is one request.
type delivery struct {
	id, topic, body string
	attempt         string
	header          http.Header
	at              time.Time
}

func newReceiver(t testing.TB, answer func(n int, d delivery) int) *receiver {
	t.Helper()
	return newReceiverAt(t, "127.0.0.1", answer)
}

func newReceiverAt(t testing.TB, host string, answer func(n int, d delivery) int) *receiver {
	t.Helper()
	r := &receiver{t: t, answer: answer, news: make(chan struct{}, 1)}
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	r.server = httptest.NewUnstartedServer(r)
	_ = r.server.Listener.Close()
	r.server.Listener = l
	r.server.Start()
	t.Cleanup(r.server.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // cut off: not received
	}
	d := delivery{req.Header.Get("Webhook-Id"), req.Header.Get("Pushd-Topic"), string(body), req.Header.Get("Pushd-Attempt"), req.Header.Clone(), time.Now()}
	r.mu.Lock()
	r.got = append(r.got, d)
	n := len(r.got)
	r.mu.Unlock()
	status := http.StatusOK
	if r.answer != nil {
		status = r.answer(n, d)
	}
	w.WriteHeader(status)
	select {
	case r.news <- struct{}{}:
	default:
	}
}

func (r *receiver) deliveries() []delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// wait returns what came once enough says that it is.
func (r *receiver) wait(what string, enough func([]delivery) bool) []delivery {
	r.t.Helper()
	deadline := time.After(readyWithin)
	for {
		got := r.deliveries()
		if enough(got) {
			return got
		}
		select {
		case <-r.news:
		case <-deadline:
			r.t.Fatalf("waiting for %s: got %d requests", what, len(got))
		}
	}
}

func atLeast(n int) func([]delivery) bool { return func(got []delivery) bool { return len(got) >= n } }

// summed is what a receiver got: how many different events, how many of them
// again, and which topics were first delivered out of order.
func summed(got []delivery) (events map[string]bool, again int, disordered []string) {
	events = map[string]bool{}
	last := map[string]int{}
	ids := map[string]string{}
	for _, d := range got {
		what := d.topic + "/" + d.body
		if id, known := ids[what]; known {
			again++
			if id != d.id {
				disordered = append(disordered, what+" under two ids")
			}
			continue
		}
		var n int
		_, _ = fmt.Sscan(d.body, &n)
		if n < last[d.topic] {
			disordered = append(disordered, what)
		}
		events[what], ids[what], last[d.topic] = true, d.id, n
	}
	return events, again, disordered
}

// drained waits until the webhook has no lag, and returns what came.
func (r *receiver) drained(p *process, id string) []delivery {
	r.t.Helper()
	p.wait("no lag", func() error {
		var w protocol.Webhook
		if status := p.webhookCall("GET", "/"+id, "", &w); status != http.StatusOK || w.Lag.Events != 0 {
			return fmt.Errorf("%d %+v", status, w)
		}
		return nil
	})
	return r.deliveries()
}

// awaitMore waits until n more requests have come.
func (r *receiver) awaitMore(what string, n int) {
	r.t.Helper()
	r.wait(what, atLeast(len(r.deliveries())+n))
}

// wantAll checks that all that was acknowledged came, no more than most of it
// again and, if asked for, in order.
func (r *receiver) wantAll(p *process, id string, acked map[string]bool, most int, ordered bool) {
	r.t.Helper()
	r.drained(p, id)
	lost := r.missing(acked)
	_, again, disordered := summed(r.deliveries())
	r.t.Logf("%d acknowledged, %d lost, %d came again", len(acked), len(lost), again)
	if len(lost) > 0 || again > most {
		r.t.Errorf("%d of %d acknowledged events never came: %v; %d came again; want none, at most %d", len(lost), len(acked), lost[:min(len(lost), 10)], again, most)
	}
	if ordered && len(disordered) > 0 {
		r.t.Errorf("first deliveries out of order: %v", disordered[:min(len(disordered), 10)])
	}
}

// missing is what has not come a while after the webhook had no lag, which a leader
// may say that has not applied all of the one before it.
func (r *receiver) missing(acked map[string]bool) (lost []string) {
	for late := time.After(5 * time.Second); ; {
		events, _, _ := summed(r.deliveries())
		lost = lost[:0]
		for what := range acked {
			if !events[what] {
				lost = append(lost, what)
			}
		}
		if len(lost) == 0 {
			return nil
		}
		select {
		case <-r.news:
		case <-late:
			return lost
		}
	}
}
