package edge

import (
	"context"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// Broker is what the edge needs of package broker.
type Broker interface {
	Publisher
	Topics
	Subscribe(selectors []protocol.Selector, start protocol.Start, o broker.SubscribeOptions) (*broker.Subscription, error)
}

// Publisher stores events.
type Publisher interface {
	Publish(ctx context.Context, p *protocol.Publish) (protocol.Published, error)
	PublishBatch(ctx context.Context, list []protocol.Publish) []broker.Result
	Submit(ctx context.Context, list []protocol.Publish, answer func([]broker.Landed))
	// Restore stores events of a snapshot file as they were; those of one restore come with one number.
	Restore(ctx context.Context, restore uint64, events []protocol.Event) (protocol.RestoreResult, error)
}

// Topics tells which topics there are.
type Topics interface {
	Topic(ctx context.Context, name string) (protocol.TopicInfo, error)
	Topics(ctx context.Context, prefix, after string, limit int) (protocol.TopicList, error)
	DeleteTopic(ctx context.Context, name string) error
}

// Cluster tells how the cluster is, and changes it for an operator.
type Cluster interface {
	Status(ctx context.Context) protocol.ClusterStatus
	Change(ctx context.Context, c protocol.ClusterChange) (protocol.ClusterChanged, error)
}

// Policies keeps what holds for the topics of a pattern. A pattern without a
// policy is refused with [protocol.NoSuchPolicy].
type Policies interface {
	List(ctx context.Context) ([]protocol.Policy, error)
	Get(ctx context.Context, pattern string) (protocol.Policy, error)
	Put(ctx context.Context, p protocol.Policy) error
	Delete(ctx context.Context, pattern string) error
}

// Health says whether the node can serve any client, and if not, why.
type Health interface {
	Ready() error
}

// reader is a broker subscription. Its methods but Done and Cursor belong to
// one goroutine at a time.
type reader interface {
	Pull(limit int) (broker.Batch, error)
	Arm(wake func()) bool
	Cursor() string
	Selectors() []protocol.Selector
	Alone() bool
	Close()
	settler
}

// settler knows what a reader has to see, and when there is nothing more to
// come.
type settler interface {
	Settle(ctx context.Context)
	Settled() bool // settles, if nothing is to be waited for
	Done() bool
}

// subscriber makes readers.
type subscriber func(selectors []protocol.Selector, start protocol.Start, o broker.SubscribeOptions) (reader, error)

// subscribeTo hides that an interface's method can't return another interface.
func subscribeTo(b Broker) subscriber {
	return func(selectors []protocol.Selector, start protocol.Start, o broker.SubscribeOptions) (reader, error) {
		s, err := b.Subscribe(selectors, start, o)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
}
