package broker

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/pushd/pushd/protocol"
)

// leaders is who leads the partitions that this node has no replica of, as far
// as others' answers tell.
type leaders struct {
	mu sync.Mutex // guards of
	of map[uint16]string
}

func (l *leaders) note(partition uint16, node string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of == nil {
		l.of = map[uint16]string{}
	}
	l.of[partition] = node
}

func (l *leaders) get(partition uint16) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of[partition]
}

// Leader is the node that leads a partition, as far as this node knows.
func (b *Broker) Leader(id uint16) (node string, known bool) {
	if log := b.logOf(id); log != nil {
		return log.Leader()
	}
	catalog := b.catalog.Load()
	if int(id) >= len(catalog.Partitions) {
		return "", false
	}
	if node := b.leaders.get(id); slices.Contains(catalog.Partitions[id], node) {
		return node, true
	}
	return catalog.Partitions[id][0], true
}

// whileLeads ends with ctx, or once another node is known to lead the partition:
// what a leader has not answered by then, it may never answer.
func (b *Broker) whileLeads(ctx context.Context, partition uint16, node string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	var look func()
	look = func() {
		if ctx.Err() != nil {
			return
		}
		leader, known := b.whoLeads(ctx, partition, node)
		switch {
		case ctx.Err() != nil:
		case known && leader != node:
			cancel()
		default:
			time.AfterFunc(leaderLook, look)
		}
	}
	first := time.AfterFunc(leaderLook, look)
	return ctx, func() {
		first.Stop()
		cancel()
	}
}

// whoLeads is [Broker.Leader] where a node that may lead does not answer: who has no
// replica has to ask others.
func (b *Broker) whoLeads(ctx context.Context, partition uint16, silent string) (node string, known bool) {
	if b.logOf(partition) == nil {
		b.askWhoLeads(ctx, partition, silent)
	}
	return b.Leader(partition)
}

// askWhoLeads asks the partition's other replicas whether they follow another
// leader than the one that does not answer, and remembers it.
func (b *Broker) askWhoLeads(ctx context.Context, partition uint16, silent string) {
	ctx, cancel := context.WithTimeout(ctx, leaderAnswer)
	defer cancel()
	for _, node := range b.replicaNodes(partition) {
		if node == silent {
			continue
		}
		answer, err := b.peers.Call(ctx, node, MethodLeader, appendUvarint(nil, uint64(partition)))
		if leader := string(answer); err == nil && leader != "" && leader != silent {
			b.leaders.note(partition, leader)
			return
		}
	}
}

// serveLeader tells who leads a partition that this node has a replica of, ""
// if that is not known just now.
func (b *Broker) serveLeader(req []byte) ([]byte, error) {
	r := protocol.NewBinaryReader(req)
	partition := uint16(r.Uvarint())
	log := b.logOf(partition)
	if r.Err() != nil || log == nil {
		return nil, errNoReplica(partition)
	}
	leader, _ := log.Leader()
	return []byte(leader), nil
}
