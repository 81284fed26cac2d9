package integration

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
)

// BenchmarkWebhook measures deliveries per second and the CPU that a node spends
// on each: events of 256 bytes that are stored already, one node with 8
// partitions, and a receiver in this process that reads and answers 200. The
// receiver shares the machine, so deliveries/s are less than a node could.
func BenchmarkWebhook(b *testing.B) {
	for _, hooks := range []int{1, 20} {
		b.Run(fmt.Sprint(hooks, "-webhooks"), func(b *testing.B) { benchWebhook(b, hooks) })
	}
}

func benchWebhook(b *testing.B, hooks int) {
	p := startNode(b, "n1", openFlags...)
	p.put("/v1/policies/**", `{"max_events":100000000,"max_bytes":100000000000}`)
	var got atomic.Int64
	all := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if got.Add(1) == int64(b.N) {
			close(all)
		}
	}))
	defer server.Close()
	var ids []string
	for range hooks {
		var w protocol.Webhook
		p.webhookCall("POST", "", fmt.Sprintf(`{"url":%q,"topics":["bench.*"],"concurrency":32}`, server.URL), &w)
		p.webhookCall("POST", "/"+w.ID+"/pause", "", nil)
		ids = append(ids, w.ID)
	}
	publishMany(b, p, (b.N+hooks-1)/hooks, 256)
	before := cpuOf(b, []*process{p})
	b.ResetTimer()
	for _, id := range ids {
		p.webhookCall("POST", "/"+id+"/resume", "", nil)
	}
	select {
	case <-all:
	case <-time.After(5 * time.Minute):
		b.Fatalf("%d of %d deliveries within five minutes", got.Load(), b.N)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
	b.ReportMetric(float64((cpuOf(b, []*process{p})-before).Microseconds())/float64(b.N), "node-cpu-µs")
}
