package broker

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
)

func TestReadersBesidePublishersSnapshotsAndRetentionMissNothing(t *testing.T) {
	const publishers, each = 4, 150
	f := newFixture(t, 2)
	edge, _ := newEdge(t, f)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var publishing, reading, keeping sync.WaitGroup
	over := make(chan struct{})
	keeping.Go(func() { f.keep(over) })
	for _, node := range []*fixture{f, edge} {
		for _, topics := range [][]string{{"t.*"}, {"t.0", "t.1", "t.2", "t.3"}, {"t.1", "**"}} {
			s := node.subscribe("earliest", topics...)
			reading.Go(func() {
				want := publishers * each
				last := map[string]uint64{}
				for got := 0; got < want; {
					b, err := s.Next(ctx, 7)
					if err != nil {
						t.Errorf("%v at %s: %d of %d events: %v", topics, node.self, got, want, err)
						return
					}
					for _, item := range b.Items {
						if e := item.Event; e == nil || e.Offset != last[e.Topic]+1 {
							t.Errorf("%v at %s: got %+v behind %v", topics, node.self, item, last)
							return
						}
						last[item.Event.Topic]++
						got++
					}
				}
			})
		}
	}
	for i := range publishers {
		node := []*fixture{f, edge}[i%2]
		publishing.Go(func() {
			for n := range each {
				p := protocol.Publish{Event: protocol.Event{Topic: fmt.Sprint("t.", n%4), ID: fmt.Sprint(i, "-", n)}}
				if _, err := node.Publish(ctx, &p); err != nil {
					t.Error(err)
				}
			}
		})
	}
	publishing.Wait()
	reading.Wait()
	close(over)
	keeping.Wait()
}

// keep is what the apply goroutine and the timer do beside readers, until over
// is closed.
func (f *fixture) keep(over <-chan struct{}) {
	for {
		select {
		case <-over:
			return
		default:
		}
		for _, log := range f.logs {
			log.mu.Lock()
			s, err := log.partition.Snapshot()
			log.mu.Unlock()
			if err == nil {
				err = s.Persist(&bytes.Buffer{})
			}
			if err != nil {
				f.t.Error(err)
			}
			log.partition.trimAll(time.Now())
		}
	}
}
