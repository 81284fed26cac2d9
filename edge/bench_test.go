package edge

import (
	"bufio"
	"bytes"
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// replay is a reader that gives the same batch for ever.
type replay struct {
	silent
	batch broker.Batch
}

func (r *replay) Pull(int) (broker.Batch, error) { return r.batch, nil }
func (r *replay) Cursor() string                 { return r.batch.Cursor }

func newReplay(events int) *replay {
	r := &replay{batch: broker.Batch{UpToDate: true, Cursor: "AQEBAgMEBQYHCAkKCwwNDg8QERITFBUW"}}
	for i := range events {
		record := &broker.Record{
			Event: protocol.Event{
				Topic: "chat.room.7", Offset: uint64(i + 1), Epoch: 1, ID: "0190c6a0-0000-7000-8000-000000000000",
				ContentType: "text/plain", Data: bytes.Repeat([]byte("x"), 256),
			},
			Position: uint64(i + 1),
		}
		r.batch.Items = append(r.batch.Items, broker.Item{Event: record, Cursor: r.batch.Cursor})
	}
	return r
}

var testEncodings = map[string]encoding{"json": jsonFrames{}, "binary": binaryFrames{}, "plain": plainFrames{}, "sse": sseBlocks{}, "sse envelope": sseBlocks{true}}

func TestADeliveryDoesNotAllocate(t *testing.T) {
	for name, e := range testEncodings {
		f, err := newFollower(context.Background(), newReplay(100), func() {})
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 0, 256<<10)
		n := testing.AllocsPerRun(20, func() {
			if buf, _, err = f.fill(buf[:0], e); err != nil || len(buf) == 0 {
				t.Fatalf("fill: got %d bytes, %v", len(buf), err)
			}
		})
		if n != 0 {
			t.Errorf("%s: got %v allocations per 100 events, want 0", name, n)
		}
	}
}

// BenchmarkFill is the edge's own cost of a delivery: 256-byte events in
// batches of 100, in nanoseconds per event.
func BenchmarkFill(b *testing.B) {
	for name, e := range testEncodings {
		b.Run(name, func(b *testing.B) {
			f, err := newFollower(context.Background(), newReplay(100), func() {})
			if err != nil {
				b.Fatal(err)
			}
			buf := make([]byte, 0, 256<<10)
			b.ReportAllocs()
			for i := 0; i < b.N; i += 100 {
				if buf, _, err = f.fill(buf[:0], e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkWebSocketDelivery reads stored topics over a real socket. A topic
// keeps 10,000 events where no policy says otherwise.
func BenchmarkWebSocketDelivery(b *testing.B) {
	s := newSite(b)
	data := bytes.Repeat([]byte("x"), 256)
	list := make([]protocol.Publish, 1000)
	for i := range list {
		list[i].Event = protocol.Event{Topic: "a." + strconv.Itoa(i%100), Data: data}
	}
	for n := 0; n < b.N; n += len(list) {
		for _, r := range s.options.Broker.PublishBatch(context.Background(), list) {
			if r.Err != nil {
				b.Fatal(r.Err)
			}
		}
	}
	c := s.dialJSON("/v1/events?topic=a.*&after=earliest")
	c.push()
	_ = c.conn.SetDeadline(time.Time{})
	c.in = bufio.NewReaderSize(c.conn, 64<<10)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		c.read()
	}
}
