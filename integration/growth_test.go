package integration

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol/client"
)

// TestGrowthWhilePublishing lets a node with history get two others while events
// are published at a steady rate: how long it takes, and what it costs the rate.
// PUSHD_CHAOS=long makes it 1 GiB of history and 5,000 events a second.
func TestGrowthWhilePublishing(t *testing.T) {
	history, rate, size := 2_000, 500, 4<<10
	if os.Getenv("PUSHD_CHAOS") == "long" {
		history, rate = 1<<30/size, 5_000
	}
	first := startNode(t, "n1")
	first.put("/v1/policies/**", `{"max_events":10000000,"max_bytes":10000000000}`)
	publish := newPace(t, first)
	publish.many(t, history, size)
	stop := publish.steadily(t, rate, 256)
	before := publish.second(t)
	began := time.Now()
	var slowest int
	nodes := []*process{first}
	for i := 2; i <= 3; i++ {
		nodes = append(nodes, startNode(t, fmt.Sprint("n", i), "join", first.gossip))
	}
	for whole := false; !whole; {
		n := publish.second(t)
		if slowest == 0 || n < slowest {
			slowest = n
		}
		whole = true
		for _, p := range nodes {
			whole = whole && p.current(3)
		}
		if time.Since(began) > 5*time.Minute {
			t.Fatal("replicas are not up to date within five minutes")
		}
	}
	took := time.Since(began)
	published := stop()
	t.Logf("%d MiB of history: three replicas of everything after %v; %d events/s before, %d in the slowest second", history*size>>20, took.Round(time.Millisecond), before, slowest)
	for _, p := range nodes {
		p.wait("all events", func() error {
			page := p.page("topic=growth.0&after=-1&limit=1")
			if len(page.Events) != 1 {
				return fmt.Errorf("%d events", len(page.Events))
			}
			return nil
		})
	}
	if published == 0 {
		t.Error("nothing was published while the cluster grew")
	}
}

// current says whether every partition has n voters that are up to date.
func (p *process) current(n int) bool {
	s, err := p.status()
	for _, part := range s.Partitions {
		current := 0
		for _, r := range part.Replicas {
			if r.Voter && r.Current {
				current++
			}
		}
		if current < n {
			return false
		}
	}
	return err == nil && len(s.Partitions) > 0
}

// pace publishes over 64 topics.
type pace struct {
	publisher *client.Publisher
	acked     atomic.Int64
}

func newPace(t *testing.T, at *process) *pace {
	t.Helper()
	c, err := client.New(client.Options{Servers: []string{at.url("")}})
	if err != nil {
		t.Fatal(err)
	}
	p := &pace{publisher: c.Publisher()}
	t.Cleanup(p.publisher.Close)
	return p
}

func (p *pace) one(ctx context.Context, n int64, data []byte) error {
	_, err := p.publisher.Publish(ctx, client.Message{Topic: fmt.Sprint("growth.", n%64), Data: data, ContentType: "text/plain"})
	if err == nil {
		p.acked.Add(1)
	}
	return err
}

// many publishes so many events as fast as may be.
func (p *pace) many(t *testing.T, count, size int) {
	t.Helper()
	data := []byte(strings.Repeat("x", size))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 128 {
		wg.Go(func() {
			for n := next.Add(1); n <= int64(count); n = next.Add(1) {
				if err := p.one(t.Context(), n, data); err != nil {
					t.Errorf("publish: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// steadily publishes at a rate until stop, which tells how many there were.
func (p *pace) steadily(t *testing.T, rate, size int) (stop func() int64) {
	t.Helper()
	const tick = 10 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	data := []byte(strings.Repeat("x", size))
	from := p.acked.Load()
	var wg sync.WaitGroup
	wg.Go(func() {
		every := time.NewTicker(tick)
		defer every.Stop()
		slots := make(chan struct{}, 4096)
		for n := int64(0); ; {
			select {
			case <-ctx.Done():
				return
			case <-every.C:
			}
			for range rate * int(tick) / int(time.Second) {
				n++
				slots <- struct{}{}
				wg.Go(func() {
					defer func() { <-slots }()
					if err := p.one(ctx, n, data); err != nil && ctx.Err() == nil {
						t.Errorf("publish: %v", err)
					}
				})
			}
		}
	})
	return func() int64 {
		cancel()
		wg.Wait()
		return p.acked.Load() - from
	}
}

// second is how many events are acknowledged within one.
func (p *pace) second(t *testing.T) int {
	t.Helper()
	before := p.acked.Load()
	select {
	case <-time.After(time.Second):
	case <-t.Context().Done():
	}
	return int(p.acked.Load() - before)
}
