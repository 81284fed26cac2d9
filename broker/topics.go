package broker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/pushd/pushd/protocol"
)

// topicsQuery is what one node asks of another's replicas, as JSON: rare and
// small.
type topicsQuery struct {
	Partitions []uint16 `json:"partitions"`
	Name       string   `json:"name,omitempty"` // exactly this topic
	Delete     bool     `json:"delete,omitempty"`
	Prefix     string   `json:"prefix,omitempty"`
	After      string   `json:"after,omitempty"`
	Limit      int      `json:"limit,omitempty"`
}

// Topic describes one topic. Unknown: [protocol.NoSuchTopic].
func (b *Broker) Topic(ctx context.Context, name string) (protocol.TopicInfo, error) {
	catalog := b.catalog.Load()
	if len(catalog.Partitions) == 0 {
		return protocol.TopicInfo{}, errNotJoined()
	}
	id := catalog.partitionOf(name)
	found, err := b.topicsOf(ctx, topicsQuery{Partitions: []uint16{id}, Name: name, Limit: 1})
	if err != nil {
		return protocol.TopicInfo{}, err
	}
	if len(found) == 0 {
		return protocol.TopicInfo{}, protocol.NoSuchTopic.Errorf("there is no topic %s; it begins with its first event", name)
	}
	info := found[0]
	if leader, known := b.Leader(id); known {
		info.Leader = catalog.Nodes[leader].Name
	}
	if policy, ok := catalog.Policy(name); ok {
		info.Policy = &policy
	}
	return info, nil
}

// Topics lists existing topics by name: those that begin with prefix, behind
// after, at most limit.
func (b *Broker) Topics(ctx context.Context, prefix, after string, limit int) (protocol.TopicList, error) {
	catalog := b.catalog.Load()
	if len(catalog.Partitions) == 0 {
		return protocol.TopicList{}, errNotJoined()
	}
	limit = min(limit, maxTopicsPage)
	q := topicsQuery{Prefix: prefix, After: after, Limit: limit + 1}
	for id := range catalog.Partitions {
		q.Partitions = append(q.Partitions, uint16(id))
	}
	all, err := b.topicsOf(ctx, q)
	if err != nil {
		return protocol.TopicList{}, err
	}
	list := protocol.TopicList{Topics: all}
	if len(all) > limit {
		list.Topics = all[:limit]
		list.Next = all[limit-1].Topic
	}
	return list, nil
}

// topicsOf answers from local replicas, and asks others for the rest.
func (b *Broker) topicsOf(ctx context.Context, q topicsQuery) ([]protocol.TopicInfo, error) {
	all := []protocol.TopicInfo{}
	for _, id := range q.Partitions {
		if p := b.local(id); p != nil {
			p.awaitFloor(ctx, b.floors.get(id))
			all = append(all, p.list(q)...)
			continue
		}
		one := q
		one.Partitions = []uint16{id}
		remote, err := b.askTopics(ctx, id, one)
		if err != nil {
			return nil, err
		}
		all = append(all, remote...)
	}
	for i := range all {
		all[i].Readers = b.Readers(all[i].Topic)
	}
	slices.SortFunc(all, func(a, c protocol.TopicInfo) int { return cmp.Compare(a.Topic, c.Topic) })
	return all, nil
}

// Readers is how many readers here follow a topic.
func (b *Broker) Readers(topic string) int { return b.readers.naming(topic) }

func (p *Partition) awaitFloor(ctx context.Context, floor uint64) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	p.reach(ctx, floor)
}

func (b *Broker) askTopics(ctx context.Context, id uint16, q topicsQuery) ([]protocol.TopicInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, remoteTimeout)
	defer cancel()
	req, err := json.Marshal(q)
	if err != nil {
		return nil, protocol.Internal.Errorf("ask for topics: %v", err)
	}
	err = protocol.NoLeader.Errorf("partition %d has no replica that can be asked", id)
	for _, node := range b.replicaNodes(id) {
		var answer []byte
		if answer, err = b.peers.Call(ctx, node, MethodTopics, req); err == nil {
			var list []protocol.TopicInfo
			return list, json.Unmarshal(answer, &list)
		}
	}
	return nil, asUnavailable(err, id)
}

func asUnavailable(err error, id uint16) error {
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return e
	}
	return protocol.NoLeader.Errorf("partition %d can't be asked just now (%v)", id, err)
}

// serveTopics answers from the replicas here.
func (b *Broker) serveTopics(req []byte) ([]byte, error) {
	var q topicsQuery
	if err := json.Unmarshal(req, &q); err != nil || len(q.Partitions) != 1 {
		return nil, protocol.BadRequest.Errorf("topics: malformed question")
	}
	if q.Delete {
		ctx, cancel := context.WithTimeout(b.running, publishTimeout)
		defer cancel()
		return nil, b.deleteHere(ctx, q.Partitions[0], q.Name)
	}
	p := b.local(q.Partitions[0])
	if p == nil {
		return nil, errNoReplica(q.Partitions[0])
	}
	return json.Marshal(p.list(q))
}

// list describes the topics that a query asks for, in order of name.
func (p *Partition) list(q topicsQuery) []protocol.TopicInfo {
	p.mu.RLock()
	defer p.mu.RUnlock()
	var names []string
	consider := func(t *topic) {
		if t == nil || !t.exists() || !strings.HasPrefix(t.name, q.Prefix) || t.name <= q.After {
			return
		}
		if names = append(names, t.name); len(names) >= 2*q.Limit+64 {
			slices.Sort(names)
			names = names[:q.Limit]
		}
	}
	if q.Name != "" {
		consider(p.topics.find(q.Name))
	} else {
		for t := range p.topics.all() {
			consider(t)
		}
	}
	slices.Sort(names)
	list := []protocol.TopicInfo{}
	for _, name := range names[:min(len(names), max(q.Limit, 0))] {
		t := p.topics.find(name)
		list = append(list, protocol.TopicInfo{
			Topic: name, Partition: p.id, Epoch: p.epochOf(t), FirstOffset: t.first, LastOffset: t.last,
			Events: t.events(), Bytes: t.bytes,
		})
	}
	return list
}

// deleteAt deletes a topic at the partition's leader.
func (b *Broker) deleteAt(ctx context.Context, id uint16, topic string) error {
	for {
		err := b.deleteHere(ctx, id, topic)
		if !errors.Is(err, ErrNotLeader) {
			return err
		}
		if err = b.deleteElsewhere(ctx, id, topic); !nothingDone(err) {
			return err
		}
		if !Pause(ctx, retryPause) {
			return asUnavailable(err, id)
		}
	}
}

func (b *Broker) deleteHere(ctx context.Context, id uint16, topic string) error {
	log := b.logOf(id)
	if log == nil || !log.IsLeader() {
		return ErrNotLeader
	}
	result, err := log.Propose(ctx, encodeDelete(b.now().UnixNano(), topic))
	if err != nil {
		return err
	}
	if refused, ok := result.(error); ok {
		return refused
	}
	return nil
}

func (b *Broker) deleteElsewhere(ctx context.Context, id uint16, topic string) error {
	req, err := json.Marshal(topicsQuery{Partitions: []uint16{id}, Name: topic, Delete: true})
	if err != nil {
		return protocol.Internal.Errorf("delete a topic: %v", err)
	}
	_, err = b.callLeader(ctx, id, MethodTopics, req)
	return err
}
