package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/cluster"
	"github.com/pushd/pushd/protocol"
)

// Methods of the peer link beside the broker's own, which are below 200.
const (
	methodReport     uint8 = 200 + iota // how the asked node's replicas are; JSON
	methodRelease                       // may the asking node drop its replica of a partition? for its leader
	methodCatalog                       // a change of the catalog, for the meta group's leader
	methodChange                        // an operator's change of the cluster, for the meta group's leader; JSON
	methodRemoved                       // the asked node was removed from the cluster
	methodReaders                       // how many readers topics have at the asked node; JSON
	methodSilence                       // for how long the asked node has heard nothing from another; JSON
	methodDraining                      // the asking node is about to give its leaders away
	methodWebhooks                      // what another node's webhooks ask of this one's
	methodWebhookKey                    // the key that seals webhook secrets
	methodRecord                        // topics whose presence the asked node is to record; JSON
	methodTicket                        // what a client's ticket stands for, which the asked node has made
	methodSucceed                       // a leader has been found silent by most: stand in its place
)

// peers are the other nodes as the broker sees them.
type peers struct {
	link   *cluster.Link
	gossip *cluster.Cluster
}

func (p peers) Call(ctx context.Context, node string, method uint8, req []byte) ([]byte, error) {
	answer, err := p.link.Call(ctx, node, method, req)
	return answer, fromLink(err)
}

func (p peers) Stream(ctx context.Context, node string, method uint8, req []byte, recv func([]byte) error) error {
	return fromLink(p.link.Stream(ctx, node, method, req, recv))
}

// Broadcast is best effort: a node that can't be reached misses the frame.
func (p peers) Broadcast(method uint8, req []byte) {
	self := p.gossip.Self().ID
	for _, n := range p.gossip.Nodes() {
		if n.ID == self || !n.State.Alive() {
			continue
		}
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), statusTimeout)
			defer cancel()
			_, _ = p.link.Call(ctx, n.ID, method, req)
		}()
	}
}

// askAll asks all other living nodes at once and gives the answers of those that
// have answered in time.
func (n *Node) askAll(ctx context.Context, limit time.Duration, method uint8, req []byte) (answers [][]byte) {
	return n.ask(ctx, limit, n.gossip.Nodes(), method, req)
}

// ask is askAll, of some nodes.
func (n *Node) ask(ctx context.Context, limit time.Duration, of []cluster.Node, method uint8, req []byte) (answers [][]byte) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var (
		mu sync.Mutex // guards answers
		wg sync.WaitGroup
	)
	for _, peer := range of {
		if peer.ID == n.home.NodeID || !peer.State.Alive() {
			continue
		}
		wg.Go(func() {
			answer, err := n.link.Call(ctx, peer.ID, method, req)
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				answers = append(answers, answer)
			}
		})
	}
	wg.Wait()
	return answers
}

// fromLink gives the link's errors the broker's meaning.
func fromLink(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, cluster.ErrUnreachable) {
		return fmt.Errorf("%w: %w", broker.ErrUnreachable, err)
	}
	if remote, ok := errors.AsType[*cluster.RemoteError](err); ok {
		// A node that is just starting does not handle the method yet: surely nothing was done.
		if remote.Code == codeNotLeader || remote.Code == cluster.CodeNoMethod {
			return fmt.Errorf("%w: %s", broker.ErrNotLeader, remote.Text)
		}
		code := protocol.Code(remote.Code)
		if remote.Code == cluster.CodeTooLarge {
			code = protocol.PayloadTooLarge
		}
		return code.Errorf("%s", remote.Text)
	}
	return err
}

// codeNotLeader is broker.ErrNotLeader on the link.
const codeNotLeader = "not_leader"

// toLink lets the caller at the other node tell our errors apart.
func toLink(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, broker.ErrNotLeader):
		return &cluster.RemoteError{Code: codeNotLeader, Text: err.Error()}
	}
	e, ok := errors.AsType[*protocol.Error](err)
	if !ok {
		e = protocol.Internal.Errorf("%v", err)
	}
	return &cluster.RemoteError{Code: string(e.Code), Text: e.Detail}
}
