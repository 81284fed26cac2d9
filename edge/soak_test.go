package edge

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/protocol"
)

const (
	soakTopics   = 4
	soakClients  = 24
	soakPatience = 300 * time.Millisecond // of one client
	soakMemory   = 16 << 20               // bytes by which live memory may move: the broker knows ids for ten minutes
)

// TestSoak has clients that stall, close half, trickle, reset and come back, over
// plain sockets and TLS, by each transport, next to readers that behave and may
// miss nothing. When they are gone everything has to be back. PUSHD_SOAK=10m
// makes it long.
func TestSoak(t *testing.T) {
	length := 3 * time.Second
	if noEpoll {
		length = time.Second
	}
	if v := os.Getenv("PUSHD_SOAK"); v != "" {
		var err error
		if length, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
	}
	h := newHouse(t, true, false, func(o *Options) { o.Loops, o.Deflate = 2, true; o.Log = slog.New(slog.NewTextHandler(t.Output(), nil)) })
	go func() { // nobody else looks
		for {
			select {
			case <-h.opened:
			case <-h.closed:
			case <-t.Context().Done():
				return
			}
		}
	}()
	h.get("/livez").want(200)
	goroutines, files := runtime.NumGoroutine(), openFiles()
	warm := length / 4
	h.soak(warm)
	h.wantQuiet(goroutines, files)
	memory := liveBytes()
	h.soak(length - warm)
	h.wantQuiet(goroutines, files)
	if now := liveBytes(); length >= time.Minute && now > memory+soakMemory { // sooner, the broker's are not full
		t.Errorf("live memory went from %d to %d bytes", memory, now)
	}
	t.Logf("%d connections, %d events delivered, %d stalls", h.metrics.accepted.Load(), h.metrics.delivered[formJSON].Load(), h.metrics.stalled.Load())
}

// soak lets all kinds of clients at the server for a while.
func (h *house) soak(length time.Duration) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), length)
	defer cancel()
	good := []*wsClient{h.dialJSON("/v1/events?topic=soak.0"), h.socketOver(h.secure(h.knock(""), &tls.Config{}), "/v1/events?topic=soak.0")}
	var readers, clients sync.WaitGroup
	for _, c := range good {
		c.push()
		_ = c.conn.SetDeadline(time.Time{})
		readers.Go(func() { c.wantAll() })
	}
	for i := range soakClients {
		clients.Go(func() {
			for ctx.Err() == nil {
				h.misbehave(i%2 == 0)
			}
		})
	}
	for n := 0; ctx.Err() == nil; n++ {
		h.publishText(fmt.Sprint("soak.", n%soakTopics), strings.Repeat("x", rand.IntN(8<<10)))
	}
	clients.Wait()
	h.publishText("soak.0", "last")
	readers.Wait()
	for _, c := range good {
		_ = c.conn.Close()
	}
}

// wantAll reads up to the event that is the last, and misses none.
func (c *wsClient) wantAll() {
	before := uint64(0)
	for {
		f, err := c.next()
		if err != nil {
			c.t.Errorf("a reader that behaves: got %v", err)
			return
		}
		if f.Header.OpCode == ws.OpPing {
			c.frame(ws.NewPongFrame(f.Payload))
			continue
		}
		var p protocol.Push
		if err := json.Unmarshal(f.Payload, &p); err != nil || p.Event == nil {
			c.t.Errorf("a reader that behaves: got %q and %v, want an event", f.Payload, err)
			return
		}
		if at := p.Event.Offset; before != 0 && at != before+1 {
			c.t.Errorf("a reader that behaves: got offset %d behind %d", at, before)
			return
		}
		before = p.Event.Offset
		if e, err := p.Event.Event(); err == nil && string(e.Data) == "last" {
			return
		}
	}
}

// wantQuiet waits until nothing of the clients is left.
func (h *house) wantQuiet(goroutines, files int) {
	h.t.Helper()
	wait, stop := context.WithTimeout(h.t.Context(), deadline)
	defer stop()
	for {
		now, open, held := runtime.NumGoroutine(), openFiles(), h.guests.count.Load()
		if now <= goroutines+8 && open <= files+8 && h.readers.Load() == 0 && held <= 4 {
			return
		}
		if wait.Err() != nil {
			h.t.Fatalf("got %d goroutines, %d files, %d connections, %d readers; want about %d, %d, 1, 0", now, open, held, h.readers.Load(), goroutines, files)
		}
		h.get("/livez") // takes a while, in which loops see what has gone
	}
}

// openFiles is 0 where that can't be told.
func openFiles() int {
	list, _ := os.ReadDir("/proc/self/fd")
	return len(list)
}

func liveBytes() uint64 {
	runtime.GC()
	runtime.GC() // pools keep things over one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// misbehave is one client's life.
func (h *house) misbehave(secure bool) {
	addr := h.site.addr
	if secure {
		addr = h.addr
	}
	tcp, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer tcp.Close()
	_ = tcp.SetDeadline(time.Now().Add(soakPatience))
	_ = tcp.(*net.TCPConn).SetReadBuffer(1 << (10 + rand.IntN(8)))
	conn := tcp
	if secure {
		if rand.IntN(20) == 0 { // in the middle of a handshake
			_, _ = tcp.Write([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")[:rand.IntN(12)])
			return
		}
		conn = tls.Client(tcp, &tls.Config{RootCAs: h.pool, ServerName: "127.0.0.1"})
	}
	if inPieces(conn, soakRequest()) != nil {
		return
	}
	in := bufio.NewReaderSize(conn, 16+rand.IntN(4<<10))
	for range rand.IntN(8) {
		if _, err := in.ReadByte(); err != nil {
			return
		}
		_, _ = in.Discard(in.Buffered())
	}
	h.part(tcp.(*net.TCPConn), conn, in)
}

// soakRequest is a request of any kind, whole or not.
func soakRequest() string {
	topic := fmt.Sprint("soak.", rand.IntN(soakTopics))
	deflate := strings.Replace(upgradeTo("/v1/events?topic="+topic+"&after=-50"), "Upgrade: ", "Sec-WebSocket-Extensions: permessage-deflate\r\nUpgrade: ", 1)
	requests := []string{
		upgradeTo("/v1/events?topic=" + topic + "&after=-3"), upgradeTo("/v1/events?topic=" + topic + "&after=earliest"), deflate,
		upgradeTo("/v1/events?topic=" + topic + "&presence=1&member=m"),
		getAt("/v1/events?topic="+topic, "Accept: text/event-stream\r\n"),
		getAt("/v1/events?topic="+topic+"&wait=1s", ""),
		getAt("/v1/events?topic="+topic+"&wait=20ms&after=latest", "") + getAt("/v1/events?topic="+topic, ""),
		"POST /v1/topics/other/events HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" + upgradeTo("/v1/events?topic="+topic),
	}
	request := requests[rand.IntN(len(requests))]
	return request[:len(request)-rand.IntN(2)*rand.IntN(len(request))]
}

// inPieces writes a text in pieces of one length.
func inPieces(conn net.Conn, text string) error {
	for step := 1 + rand.IntN(len(text)+1); text != ""; {
		n := min(step, len(text))
		if _, err := conn.Write([]byte(text[:n])); err != nil {
			return err
		}
		text = text[n:]
	}
	return nil
}

// part is how a client ends.
func (h *house) part(tcp *net.TCPConn, conn net.Conn, in *bufio.Reader) {
	switch rand.IntN(7) {
	case 0:
		_ = tcp.SetLinger(0) // a reset
	case 1: // a FIN; the other half stays open
		_ = tcp.CloseWrite()
		_, _ = in.ReadByte()
	case 2: // TLS's own end, if it is TLS
		closeWrite(conn)
		_, _ = in.ReadByte()
	case 3: // half a frame
		_, _ = conn.Write([]byte(masked(ws.NewTextFrame([]byte(`{"id":1,"ping":{}}`)))[:1+rand.IntN(20)]))
	case 4: // a stall, over much history
		_, _ = conn.Write([]byte(strings.Repeat(masked(ws.NewTextFrame([]byte(`{"id":1,"history":{"topic":"soak.1","after":"earliest","limit":1000}}`))), 4)))
		stall, stop := context.WithTimeout(h.t.Context(), soakPatience/2)
		<-stall.Done()
		stop()
		_, _ = in.Discard(1 << rand.IntN(20))
	case 5: // a fragment, and a control frame in between
		_, _ = conn.Write([]byte(masked(ws.NewFrame(ws.OpText, false, []byte(`{"id":1,`))) + masked(ws.NewPingFrame(nil))))
	case 6:
		_, _ = conn.Write([]byte(closing(1000, "")))
		_, _ = in.ReadByte()
	}
}
