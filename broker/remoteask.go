package broker

import (
	"context"
	"sync"
	"time"
)

// asking is one question, put to the replicas until one has answered.
type asking struct {
	broker    *Broker
	partition uint16
	question  []byte
	answers   chan remoteAnswer
}

type remoteAnswer struct {
	found remoteFound
	err   error
}

// askReplica asks the leader, and the next replica whenever one has failed or has
// taken long: a node that is cut off is not told from one that is slow. The first
// answer counts; all of them hold what is before the question's floor.
func (b *Broker) askReplica(ctx context.Context, partition uint16, q question) (remoteFound, error) {
	nodes := b.replicaNodes(partition)
	a := asking{broker: b, partition: partition, question: q.append(nil), answers: make(chan remoteAnswer, len(nodes))}
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithTimeout(ctx, remoteTimeout)
	defer cancel()
	hedge := time.NewTicker(remoteHedge)
	defer hedge.Stop()
	var err error = errNotJoined()
	for waits := 0; waits > 0 || len(nodes) > 0; {
		if len(nodes) > 0 {
			node := nodes[0]
			nodes = nodes[1:]
			waits++
			wg.Go(func() { a.ask(ctx, node) })
		}
		select {
		case got := <-a.answers:
			if got.err == nil {
				return got.found, nil
			}
			waits--
			err = got.err
		case <-hedge.C:
		}
	}
	return remoteFound{}, err
}

// ask asks one node. A leader is not waited for once another leads.
func (a *asking) ask(ctx context.Context, node string) {
	if leader, known := a.broker.Leader(a.partition); known && leader == node {
		var done context.CancelFunc
		ctx, done = a.broker.whileLeads(ctx, a.partition, node)
		defer done()
	}
	var got remoteAnswer
	answer, err := a.broker.peers.Call(ctx, node, MethodRead, a.question)
	if got.err = err; err == nil {
		got.found, got.err = decodeRemoteFound(answer)
	}
	a.answers <- got
}
