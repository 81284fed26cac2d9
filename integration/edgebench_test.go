package integration

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/protocol/client"
)

// Each payload ends with mark, which stands nowhere else: clients count it, and need not parse frames.
const (
	mark         = '\n'
	payloadBytes = 128
	manyClients  = 9000             // with both ends of the floor's sockets, about what one process may open
	atRest       = 11 * time.Second // by then a process that rests has given back what it does not need
)

// crowd is many WebSockets of one node.
type crowd struct {
	b        testing.TB
	node     *process
	conns    []net.Conn
	in       []*bufio.Reader
	got      atomic.Int64
	want     atomic.Int64
	complete chan struct{}
	readers  sync.WaitGroup
}

// headers by which a reader says how it wants to read.
var headers = map[string]string{
	"websocket": "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
	"sse":       "Accept: text/event-stream\r\n",
	"long-poll": "",
}

// gather connects n WebSockets, each with the topic that topicOf says.
func gather(b *testing.B, node *process, n int, topicOf func(i int) string) *crowd {
	b.Helper()
	return gatherBy(b, node, "websocket", n, func(i int) string { return "topic=" + topicOf(i) })
}

// gatherBy connects n readers of a kind, each with its query. Long polls are not
// answered before there is something.
func gatherBy(b testing.TB, node *process, kind string, n int, query func(i int) string) *crowd {
	b.Helper()
	c := &crowd{b: b, node: node, complete: make(chan struct{}, 1)}
	b.Cleanup(c.leave)
	for i := range n {
		conn, err := node.dial()
		if err != nil {
			b.Fatal(err)
		}
		c.conns, c.in = append(c.conns, conn), append(c.in, bufio.NewReaderSize(conn, 512))
		fmt.Fprintf(conn, "GET /v1/events?%s HTTP/1.1\r\nHost: x\r\n%s\r\n", query(i), headers[kind])
	}
	if kind == "long-poll" {
		return c
	}
	for _, in := range c.in {
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode >= http.StatusBadRequest {
			b.Fatalf("%s: got %v, %v", kind, resp, err)
		}
	}
	return c
}

func (c *crowd) leave() {
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.readers.Wait()
}

// listen counts what every client gets.
func (c *crowd) listen() {
	for _, in := range c.in {
		c.readers.Go(func() { c.count(in) })
	}
}

func (c *crowd) count(conn io.Reader) {
	buf := make([]byte, 4<<10)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		marks := int64(bytes.Count(buf[:n], []byte{mark}))
		if got := c.got.Add(marks); marks > 0 && got == c.want.Load() {
			c.complete <- struct{}{}
		}
	}
}

// expect says how many deliveries are to come; wait returns when they have.
func (c *crowd) expect(n int) { c.want.Store(c.got.Load() + int64(n)) }

func (c *crowd) wait() {
	select {
	case <-c.complete:
	case <-time.After(time.Minute):
		c.b.Fatalf("got %d deliveries, want %d", c.got.Load(), c.want.Load())
	}
}

func payload() []byte { return append(bytes.Repeat([]byte("x"), payloadBytes-1), mark) }

// BenchmarkFanOut measures the server's CPU for each delivery of a 128-byte
// event over plain WebSockets, beside the floor: a loop of sendto over as many
// sockets with the frame ready, on one thread, in the same run.
func BenchmarkFanOut(b *testing.B) {
	for _, readers := range []int{1000, manyClients} {
		for _, burst := range []int{1, 10} {
			b.Run(fmt.Sprintf("1x%d/bursts-of-%d", readers, burst), func(b *testing.B) {
				benchFanOut(b, plainNode, readers, burst, func(int) string { return "bench" })
			})
		}
	}
	b.Run(fmt.Sprintf("%dx1", manyClients), func(b *testing.B) {
		benchFanOut(b, plainNode, manyClients, manyClients, func(i int) string { return fmt.Sprint("bench.", i) })
	})
}

// benchFanOut publishes bursts, each time when the last one has reached everybody.
func benchFanOut(b *testing.B, start func(*testing.B) *process, readers, burst int, topicOf func(int) string) {
	own := topicOf(0) != topicOf(1)
	perBurst := readers * burst
	floorBurst := min(burst, 10)
	if own {
		perBurst, floorBurst = burst, 1
	}
	most := max(b.N, 3*perBurst)
	floor := sendFloor(b, readers, floorBurst, most)
	node := start(b)
	c := gather(b, node, readers, topicOf)
	c.listen()
	publish := publisher(b, node, topicOf)
	before := cpuOf(b, []*process{node})
	var latencies []time.Duration
	deliveries := 0
	b.ResetTimer()
	for deliveries < most {
		c.expect(perBurst)
		began := time.Now()
		publish(burst)
		c.wait()
		latencies = append(latencies, time.Since(began))
		deliveries += perBurst
	}
	b.StopTimer()
	perMillion := (cpuOf(b, []*process{node}) - before).Seconds() * 1e6 / float64(deliveries)
	slices.Sort(latencies)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(perMillion, "cpu-s/M")
	b.ReportMetric(floor, "floor-cpu-s/M")
	b.ReportMetric(float64(deliveries)/b.Elapsed().Seconds(), "deliveries/s")
	b.ReportMetric(float64(latencies[len(latencies)/2].Microseconds())/1e3, "p50-ms-to-all")
}

// publisher publishes n events at once, each to the next topic.
func publisher(b *testing.B, node *process, topicOf func(int) string) func(n int) {
	c, err := client.New(client.Options{Servers: []string{node.url("")}, TLS: node.trust})
	if err != nil {
		b.Fatal(err)
	}
	p := c.Publisher()
	b.Cleanup(p.Close)
	return func(n int) {
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() {
				if _, err := p.Publish(context.Background(), client.Message{Topic: topicOf(i), Data: payload(), ContentType: "text/plain"}); err != nil {
					b.Error(err)
				}
			})
		}
		all.Wait()
	}
}

// sendFloor is the CPU seconds of a million sends of one frame, in writes of
// burst frames, over n connections of loopback.
func sendFloor(b *testing.B, n, burst, sends int) float64 {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	f := &crowd{b: b, complete: make(chan struct{}, 1)}
	defer f.leave()
	var fds []int
	for range n {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		f.conns, f.in = append(f.conns, conn), append(f.in, bufio.NewReaderSize(conn, 16))
		other, err := l.Accept()
		if err != nil {
			b.Fatal(err)
		}
		defer other.Close()
		raw, _ := other.(*net.TCPConn).SyscallConn()
		_ = raw.Control(func(fd uintptr) { fds = append(fds, int(fd)) })
	}
	f.listen()
	frames := bytes.Repeat(append([]byte{0x81, 126, 0, payloadBytes}, payload()...), burst)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, sent := cpuOfThread(b), 0
	for sent < sends {
		f.expect(n * burst)
		for _, fd := range fds {
			if err := unix.Send(fd, frames, 0); err != nil {
				b.Fatal(err)
			}
		}
		sent += n * burst
		f.wait()
	}
	return (cpuOfThread(b) - before).Seconds() * 1e6 / float64(sent)
}

func cpuOfThread(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkIdle measures what an idle reader costs the server: resident bytes,
// and the CPU of connecting.
func BenchmarkIdle(b *testing.B) {
	for _, kind := range []string{"websocket", "sse", "long-poll"} {
		b.Run(kind+"/one-topic", func(b *testing.B) { benchIdle(b, plainNode(b), kind, 10000, func(int) string { return "bench" }) })
		b.Run(kind+"/topic-for-each", func(b *testing.B) {
			benchIdle(b, plainNode(b), kind, 10000, func(i int) string { return fmt.Sprint("bench.", i) })
		})
	}
}

func benchIdle(b *testing.B, node *process, kind string, n int, topicOf func(int) string) {
	query := func(i int) string { return "topic=" + topicOf(i) }
	if kind == "long-poll" {
		publisher(b, node, topicOf)(1)
		query = func(i int) string { return "topic=" + topicOf(i) + "&wait=60s&after=latest" }
	}
	gatherBy(b, node, kind, 100, query) // what is needed once for all
	<-time.After(atRest)
	memory, cpu := residentBytes(b, node), cpuOf(b, []*process{node})
	gatherBy(b, node, kind, n, query)
	node.wait("all readers", func() error { return node.checkMetric("pushd_readers", n+100) })
	cpu = cpuOf(b, []*process{node}) - cpu
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(cpu.Microseconds())/float64(n), "cpu-us/connect")
	b.ReportMetric(float64(residentBytes(b, node)-memory)/float64(n), "bytes/conn-at-once")
	<-time.After(atRest)
	b.ReportMetric(float64(residentBytes(b, node)-memory)/float64(n), "bytes/conn")
}

// checkMetric wants a metric of the node to have a value.
func (p *process) checkMetric(name string, want int) error {
	resp, err := httpClient.Get(p.url("/metrics"))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && !strings.Contains(string(text), fmt.Sprintf("\n%s %d\n", name, want)) {
		err = fmt.Errorf("%s is not %d", name, want)
	}
	return err
}

// BenchmarkReconnect measures 10,000 WebSockets that come back at once, each with
// 10 events that it has missed.
func BenchmarkReconnect(b *testing.B) {
	const n, missed = 10000, 10
	node := startNode(b, "n1")
	publisher(b, node, func(int) string { return "bench" })(missed + 1)
	cpu, began := cpuOf(b, []*process{node}), time.Now()
	c := gatherBy(b, node, "websocket", n, func(int) string { return fmt.Sprintf("topic=bench&after=-%d", missed) })
	c.expect(n * missed)
	c.listen()
	c.wait()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(time.Since(began).Seconds(), "s-to-all")
	b.ReportMetric(float64((cpuOf(b, []*process{node})-cpu).Microseconds())/n, "cpu-us/client")
}

func residentBytes(b *testing.B, p *process) int {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				b.Fatal(err)
			}
			return n << 10
		}
	}
	b.Fatal("the process has no VmRSS")
	return 0
}
