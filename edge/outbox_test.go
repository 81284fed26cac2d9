package edge

import (
	"context"
	"testing"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// heldLog is a log that takes nothing before it is let go.
type heldLog struct {
	memoryLog
	release chan struct{}
}

func (l *heldLog) Propose(ctx context.Context, entry []byte) (any, error) {
	<-l.release
	return l.memoryLog.Propose(ctx, entry)
}

func TestAPartitionThatHangsHoldsUpNoOther(t *testing.T) {
	const slow, quick = "slow", "fast"
	slowly := uint16(protocol.TopicHash(slow) % 4)
	if uint16(protocol.TopicHash(quick)%4) == slowly {
		t.Fatal("the topics are in one partition")
	}
	log := &heldLog{release: make(chan struct{})}
	s := newSite(t, func(o *Options) {
		b := o.Broker.(*broker.Broker)
		log.partition = b.Partition(slowly)
		b.OpenPartition(slowly, log)
	})
	c := s.dialJSON("/v1/events")
	c.send(`{"id":1,"publish":{"topic":"slow","data":"a"}}`, `{"id":2,"publish":{"topic":"fast","data":"b"}}`)
	c.send(`{"id":3,"publish":{"topic":"slow","data":"c"}}`, `{"id":4,"publish":{"topic":"fast","data":"d"}}`)
	for _, want := range []uint64{2, 4, 1, 3} {
		if want == 1 {
			close(log.release)
		}
		if p := c.push(); p.ID == nil || *p.ID != want || p.Published == nil {
			t.Errorf("got %+v, want publish %d answered", p, want)
		}
	}
}
