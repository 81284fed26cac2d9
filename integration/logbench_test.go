package integration

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol/client"
)

// size is how large a benchmark is made: a number from the environment, or the
// short one.
func size(b *testing.B, variable string, short int) int {
	b.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return short
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		b.Fatalf("%s=%q is no number", variable, text)
	}
	return n
}

// bulk publishes n events in batches from some connections to each node, and
// says how many it stored per second.
func bulk(b *testing.B, nodes []*process, n, bytes int, topic func(i int) string) float64 {
	b.Helper()
	const batch, publishers = 500, 12
	ctx, cancel := context.WithTimeout(b.Context(), 20*time.Minute)
	defer cancel()
	data := []byte(strings.Repeat("x", bytes))
	var next atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for p := range publishers {
		c, err := client.New(client.Options{Servers: []string{nodes[p%len(nodes)].url("")}})
		if err != nil {
			b.Fatal(err)
		}
		wg.Go(func() {
			defer c.Close()
			for from := int(next.Add(batch)) - batch; from < n; from = int(next.Add(batch)) - batch {
				messages := make([]client.Message, 0, batch)
				for i := from; i < min(from+batch, n); i++ {
					messages = append(messages, client.Message{Topic: topic(i), Data: data, ContentType: "text/plain"})
				}
				if _, err := c.PublishAll(ctx, messages); err != nil {
					b.Errorf("publish: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	return float64(n) / time.Since(began).Seconds()
}

// BenchmarkManyTopics publishes as many events to one topic, and then one each
// to as many topics: PUSHD_BENCH_TOPICS of them, 50,000 if it is not set. What a
// topic takes is the growth of a node's resident memory.
func BenchmarkManyTopics(b *testing.B) {
	n := size(b, "PUSHD_BENCH_TOPICS", 50_000)
	nodes := startCluster(b, 3)
	for b.Loop() {
		one := bulk(b, nodes, n, 256, func(int) string { return "one" })
		before := resident(b, nodes)
		many := bulk(b, nodes, n, 256, func(i int) string { return fmt.Sprintf("many.%07d.state", i) })
		b.ReportMetric(one, "one-topic/s")
		b.ReportMetric(many, "many-topics/s")
		b.ReportMetric(float64(resident(b, nodes)-before)/float64(n*len(nodes)), "rss-B/topic")
	}
}

// BenchmarkNodeRestart kills a node that holds PUSHD_BENCH_GIB of events, 1 if
// it is not set, of 4 KiB, and measures from exec until it serves again.
func BenchmarkNodeRestart(b *testing.B) {
	gib := size(b, "PUSHD_BENCH_GIB", 1)
	p := startNode(b, "n1")
	p.put("/v1/policies/**", `{"max_age":"24h","max_events":1000000000,"max_bytes":1000000000000}`)
	n := gib << 30 / 4096
	bulk(b, []*process{p}, n, 4096, func(i int) string { return fmt.Sprint("t.", i%5000) })
	var total time.Duration
	rounds := 0
	for b.Loop() {
		p.kill()
		began := time.Now()
		p.serve()
		if status, _ := p.publish("t.1", "after"); status != 201 {
			b.Fatalf("a publish after the restart: %d", status)
		}
		total += time.Since(began)
		rounds++
	}
	b.ReportMetric(total.Seconds()/float64(rounds), "s/restart")
	b.ReportMetric(float64(resident(b, []*process{p}))/(1<<20), "rss-MiB")
}

// resident is the nodes' resident memory in bytes.
func resident(b *testing.B, nodes []*process) (total int64) {
	b.Helper()
	for _, p := range nodes {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
		if err != nil {
			b.Fatal(err)
		}
		fields := strings.Fields(string(text))
		pages, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		total += pages * int64(os.Getpagesize())
	}
	return total
}
