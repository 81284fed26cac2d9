package webhook

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// sink answers 200 at once and counts.
type sink struct {
	n    atomic.Int64
	want int64
	all  chan struct{}
	once sync.Once
}

func (s *sink) RoundTrip(r *http.Request) (*http.Response, error) {
	if s.n.Add(1) == s.want {
		s.once.Do(func() { close(s.all) })
	}
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(""))}, nil
}

// BenchmarkDispatch measures what a delivery costs without HTTP and Raft, events
// published while it goes on: from the log's Apply to progress applied.
func BenchmarkDispatch(b *testing.B) {
	for _, hooks := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprint(hooks, "-webhooks"), func(b *testing.B) {
			s := &sink{want: int64(b.N), all: make(chan struct{})}
			c := newCluster(b, 8, Options{NoVerify: true, Transport: s})
			defer c.close()
			c.meta.Apply(0, broker.PutPolicy{Policy: protocol.Policy{Pattern: "**", MaxEvents: 1 << 40, MaxBytes: 1 << 40}}.Encode())
			c.broker.SetCatalog(c.meta.Catalog())
			for i := range hooks {
				c.create(protocol.WebhookSpec{URL: fmt.Sprintf("https://h%d.example/", i), Topics: []string{fmt.Sprint("t.", i)}, Concurrency: 64})
			}
			time.Sleep(2 * pollPeriod)
			b.ReportAllocs()
			b.ResetTimer()
			for from := 0; from < b.N; from += 512 {
				var list []protocol.Publish
				for i := from; i < min(from+512, b.N); i++ {
					list = append(list, protocol.Publish{Event: protocol.Event{Topic: fmt.Sprint("t.", i%hooks), Data: []byte("0123456789")}})
				}
				for _, r := range c.broker.PublishBatch(b.Context(), list) {
					if r.Err != nil {
						b.Fatal(r.Err)
					}
				}
			}
			<-s.all
			b.StopTimer()
			entries := 0
			for _, l := range c.logs {
				n, _ := l.saved()
				entries += n
			}
			b.ReportMetric(float64(entries-8*hooks)/float64(b.N), "entries/delivery")
		})
	}
}

// BenchmarkRequest measures making and signing one request.
func BenchmarkRequest(b *testing.B) {
	w := &broker.Webhook{ID: "wh_1", Spec: protocol.WebhookSpec{URL: "https://a.example/", Topics: []string{"a"}}}
	to, err := newTarget(w, nil)
	if err != nil {
		b.Fatal(err)
	}
	to.secrets, to.secretUntil = []secret{makeSecret(secret{})}, make([]time.Time, 1)
	r := &broker.Record{Event: protocol.Event{Topic: "orders.eu", Offset: 7, Epoch: 3, ID: "01a20d9e-29ee-7f22-b42b-14b0c393c64c", Data: make([]byte, 256)}}
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		o := outgoingEvent(formatStandard, 1, r)
		o.request(b.Context(), http.MethodPost, to, now)
	}
}
