package node

import (
	"context"
	"encoding/json"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// clientBroker is the broker as clients see it: it counts the readers of all
// nodes.
type clientBroker struct {
	*broker.Broker
	n *Node
}

// Topic describes one topic.
func (b clientBroker) Topic(ctx context.Context, name string) (protocol.TopicInfo, error) {
	info, err := b.Broker.Topic(ctx, name)
	if err == nil {
		one := []protocol.TopicInfo{info}
		b.n.addReaders(ctx, one)
		info = one[0]
	}
	return info, err
}

// Topics lists topics.
func (b clientBroker) Topics(ctx context.Context, prefix, after string, limit int) (protocol.TopicList, error) {
	list, err := b.Broker.Topics(ctx, prefix, after, limit)
	if err == nil {
		b.n.addReaders(ctx, list.Topics)
	}
	return list, err
}

// addReaders adds the readers at the other nodes, as far as those answer at
// once.
func (n *Node) addReaders(ctx context.Context, topics []protocol.TopicInfo) {
	names := make([]string, len(topics))
	for i, t := range topics {
		names[i] = t.Topic
	}
	req, err := json.Marshal(names)
	if err != nil || len(names) == 0 {
		return
	}
	for _, answer := range n.askAll(ctx, askTimeout, methodReaders, req) {
		var counts []int
		if json.Unmarshal(answer, &counts) != nil || len(counts) != len(topics) {
			continue
		}
		for i := range topics {
			topics[i].Readers += counts[i]
		}
	}
}

// countReaders answers for this node.
func (n *Node) countReaders(req []byte) ([]byte, error) {
	var names []string
	if err := json.Unmarshal(req, &names); err != nil {
		return nil, protocol.BadRequest.Errorf("readers: %v", err)
	}
	counts := make([]int, len(names))
	for i, name := range names {
		counts[i] = n.broker.Readers(name)
	}
	return json.Marshal(counts)
}
