package integration

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol/client"
)

// connections are the WebSockets that publishers share: more of them cost more, since less stands in each frame.
const connections = 3

// BenchmarkPublish measures acknowledged events per second and the CPU that
// they cost: three processes on this machine, 256-byte events over 1,000
// topics, publishers that wait for each answer, over pushd.v1.json through the
// Go client, over one connection to each node. CPU is that of the three nodes and,
// apart, of this process, which is all publishers.
func BenchmarkPublish(b *testing.B) {
	nodes := startCluster(b, 3)
	for _, inFlight := range []int{1, 64, 512} {
		b.Run(fmt.Sprint(inFlight, "-in-flight"), func(b *testing.B) { benchPublish(b, nodes, inFlight) })
	}
}

func benchPublish(b *testing.B, nodes []*process, inFlight int) {
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
	defer cancel()
	var publishers []*client.Publisher
	for i := range connections {
		c, err := client.New(client.Options{Servers: []string{nodes[i%len(nodes)].url("")}})
		if err != nil {
			b.Fatal(err)
		}
		p := c.Publisher()
		defer p.Close()
		publishers = append(publishers, p)
	}
	data := []byte(strings.Repeat("x", 256))
	latencies := make([][]time.Duration, inFlight)
	nodesBefore, selfBefore := cpuOf(b, nodes), cpuOfSelf(b)
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for i := range inFlight {
		wg.Go(func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				began := time.Now()
				m := client.Message{Topic: fmt.Sprint("bench.", n%1000), Data: data, ContentType: "text/plain"}
				if _, err := publishers[i%len(publishers)].Publish(ctx, m); err != nil {
					b.Errorf("publish: %v", err)
					return
				}
				latencies[i] = append(latencies[i], time.Since(began))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	all := slices.Concat(latencies...)
	slices.Sort(all)
	million := 1e6 / float64(b.N)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric((cpuOf(b, nodes)-nodesBefore).Seconds()*million, "node-cpu-s/M")
	b.ReportMetric((cpuOfSelf(b)-selfBefore).Seconds()*million, "client-cpu-s/M")
	b.ReportMetric(float64(all[len(all)/2].Microseconds())/1e3, "p50-ms")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1e3, "p99-ms")
}

// BenchmarkStart measures an empty node from exec to the first 200 of /readyz.
func BenchmarkStart(b *testing.B) {
	var total time.Duration
	for range b.N {
		p := newNode(b, "n1")
		began := time.Now()
		p.serve()
		total += time.Since(began)
		p.kill()
	}
	b.ReportMetric(float64(total.Milliseconds())/float64(b.N), "ms/start")
}

// cpuOf is the user and system time that the nodes have used.
func cpuOf(b *testing.B, nodes []*process) (total time.Duration) {
	b.Helper()
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on
	for _, p := range nodes {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
		if err != nil {
			b.Fatal(err)
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		for _, field := range fields[11:13] {
			n, err := strconv.Atoi(field)
			if err != nil {
				b.Fatal(err)
			}
			total += time.Duration(n) * tick
		}
	}
	return total
}

func cpuOfSelf(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
