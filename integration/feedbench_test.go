package integration

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"
)

// BenchmarkFeed measures the feed of a node without replicas: from the
// acknowledgement of a 128-byte event by its leader to the last of the edge node's
// WebSockets, and what an event costs that node: bytes that it reads (peers', since
// clients send nothing) and CPU for each delivery.
func BenchmarkFeed(b *testing.B) {
	nodes := startCluster(b, 3)
	edge := startNode(b, "edge", "join", nodes[0].gossip, "--role", "edge")
	for _, readers := range []int{1, 1000} {
		for _, burst := range []int{1, 64} {
			b.Run(fmt.Sprintf("%d-readers/bursts-of-%d", readers, burst), func(b *testing.B) { benchFeed(b, nodes, edge, readers, burst) })
		}
	}
}

func benchFeed(b *testing.B, nodes []*process, edge *process, readers, burst int) {
	topic := fmt.Sprintf("feed.%d.%d.%d", readers, burst, b.N) // a benchmark runs more than once
	topicOf := func(int) string { return topic }
	publisher(b, nodes[0], topicOf)(1)
	edge.wait("the first event", func() error { // so that readers begin behind it
		if n := len(edge.page("after=earliest&topic=" + topic).Events); n != 1 {
			return fmt.Errorf("%d events", n)
		}
		return nil
	})
	leader := leaderOf(b, nodes, topic)
	publish := publisher(b, leader, topicOf)
	c := gather(b, edge, readers, topicOf)
	c.listen()
	deliver := func() (behind, total time.Duration) {
		c.expect(readers * burst)
		began := time.Now()
		publish(burst)
		acked := time.Now()
		c.wait()
		return time.Since(acked), time.Since(began)
	}
	for range 20 {
		deliver() // the feed begins
	}
	var behind, whole []time.Duration
	cpu, read := cpuOf(b, []*process{edge}), bytesRead(b, edge)
	rounds := max(b.N, 300)
	b.ResetTimer()
	for range rounds {
		late, total := deliver()
		behind, whole = append(behind, late), append(whole, total)
	}
	b.StopTimer()
	slices.Sort(behind)
	slices.Sort(whole)
	events := float64(rounds * burst)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(milliseconds(behind[rounds/2]), "p50-ms-behind-ack")
	b.ReportMetric(milliseconds(behind[rounds*99/100]), "p99-ms-behind-ack")
	b.ReportMetric(milliseconds(whole[rounds/2]), "p50-ms-from-publish")
	b.ReportMetric(milliseconds(whole[rounds*99/100]), "p99-ms-from-publish")
	b.ReportMetric(float64(bytesRead(b, edge)-read)/events, "peer-bytes/event")
	b.ReportMetric(float64((cpuOf(b, []*process{edge})-cpu).Microseconds())/events/float64(readers), "edge-cpu-us/delivery")
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

// bytesRead is what a process has read from files and TCP connections.
func bytesRead(b *testing.B, p *process) (n int) {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.cmd.Process.Pid))
	if err == nil {
		_, err = fmt.Fscanf(bytes.NewReader(text), "rchar: %d", &n)
	}
	if err != nil {
		b.Fatal(err)
	}
	return n
}
