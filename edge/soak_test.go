package edge

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// TestSoak has clients that stall, close half, trickle, reset and come back, and
// wants everything back when they are gone. PUSHD_SOAK=10m makes it long.
func TestSoak(t *testing.T) {
	length := time.Second
	if v := os.Getenv("PUSHD_SOAK"); v != "" {
		var err error
		if length, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
	}
	s := newSite(t, func(o *Options) { o.Loops = 2 })
	s.get("/livez").want(200)
	goroutines, files := runtime.NumGoroutine(), openFiles()
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var clients sync.WaitGroup
	for range 24 {
		clients.Go(func() {
			for ctx.Err() == nil {
				s.misbehave()
			}
		})
	}
	for n := 0; ctx.Err() == nil; n++ {
		s.publishText(fmt.Sprint("soak.", n%4), strings.Repeat("x", rand.IntN(8<<10)))
	}
	clients.Wait()
	good := s.dialJSON("/v1/events?topic=soak.1&after=-1")
	good.push()
	good.event()
	_ = good.conn.Close()
	wait, stop := context.WithTimeout(t.Context(), deadline)
	defer stop()
	for runtime.NumGoroutine() > goroutines+8 || openFiles() > files+8 || s.readers.Load() > 0 {
		if wait.Err() != nil {
			t.Fatalf("got %d goroutines, %d files, %d readers; want about %d, %d, 0", runtime.NumGoroutine(), openFiles(), s.readers.Load(), goroutines, files)
		}
		s.get("/livez") // takes a while, in which loops see what has gone
	}
}

// openFiles is 0 where that can't be told.
func openFiles() int {
	list, _ := os.ReadDir("/proc/self/fd")
	return len(list)
}

// misbehave is one client's life.
func (s *site) misbehave() {
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	topic := fmt.Sprint("soak.", rand.IntN(4))
	requests := []string{
		upgradeTo("/v1/events?topic=" + topic + "&after=-3"),
		getAt("/v1/events?topic="+topic, "Accept: text/event-stream\r\n"),
		getAt("/v1/events?topic=" + topic + "&wait=1s"),
		"POST /v1/topics/" + topic + "/events HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" + upgradeTo("/v1/events?topic="+topic),
	}
	request := requests[rand.IntN(len(requests))]
	request = request[:len(request)-rand.IntN(2)*rand.IntN(len(request))]
	for step := 1 + rand.IntN(len(request)); request != ""; {
		n := min(step, len(request))
		if _, err := conn.Write([]byte(request[:n])); err != nil {
			return
		}
		request = request[n:]
	}
	buf := make([]byte, 1+rand.IntN(4<<10))
	for range rand.IntN(8) {
		if _, err := conn.Read(buf); err != nil {
			return
		}
	}
	tcp := conn.(*net.TCPConn)
	switch rand.IntN(4) {
	case 0:
		_ = tcp.SetLinger(0) // a reset
	case 1:
		_ = tcp.CloseWrite()
		_, _ = conn.Read(buf)
	case 2:
		_, _ = conn.Write([]byte(masked(ws.NewTextFrame([]byte(`{"id":1,"ping":{}}`)))[:1+rand.IntN(20)]))
	}
}
