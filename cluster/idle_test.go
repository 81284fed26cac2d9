package cluster

import (
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pushd/pushd/integration/memnet"
)

// counted is a transport whose bytes are counted: packets, and what is written
// to streams that it opened or took.
type counted struct {
	*memnet.Transport
	bytes *atomic.Int64
}

func (c counted) WriteTo(b []byte, addr string) (time.Time, error) {
	c.bytes.Add(int64(len(b)))
	return c.Transport.WriteTo(b, addr)
}

func (c counted) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	conn, err := c.Transport.DialTimeout(addr, timeout)
	if err != nil {
		return nil, err
	}
	return countedConn{conn, c.bytes}, nil
}

type countedConn struct {
	net.Conn
	bytes *atomic.Int64
}

func (c countedConn) Write(b []byte) (int, error) {
	c.bytes.Add(int64(len(b)))
	return c.Conn.Write(b)
}

// Read counts what the other side writes: each stream has one end that is
// counted.
func (c countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.bytes.Add(int64(n))
	return n, err
}

// TestAnIdleClusterGossipsLittle measures payload bytes that a node sends, with
// its share of the streams. PUSHD_CHAOS=long adds 50 nodes.
func TestAnIdleClusterGossipsLittle(t *testing.T) {
	sizes := []int{3, 10}
	if os.Getenv("PUSHD_CHAOS") == "long" {
		sizes = []int{3, 20, 50}
	}
	for _, size := range sizes {
		t.Run(fmt.Sprint(size, " nodes"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var bytes atomic.Int64
				network := memnet.New()
				var all []*Cluster
				w := &world{t, network, nil}
				for i := range size {
					o := w.options(i + 1)
					o.Transport = counted{network.Transport(gossipAt(i + 1)), &bytes}
					c, err := Start(t.Context(), o)
					if err != nil {
						t.Fatal(err)
					}
					all = append(all, c)
				}
				w.within(30*time.Second, "all see all", func() bool { return allAlive(all) })
				time.Sleep(30 * time.Second)
				before := bytes.Load()
				const over = time.Minute
				time.Sleep(over)
				rate := float64(bytes.Load()-before) / over.Seconds() / float64(size)
				t.Logf("%d nodes: %.0f bytes per node and second", size, rate)
				if rate > 4000 {
					t.Errorf("%d nodes: got %.0f bytes per node and second, want at most 4000", size, rate)
				}
				for _, c := range all {
					_ = c.Close()
				}
				time.Sleep(time.Minute)
			})
		})
	}
}
