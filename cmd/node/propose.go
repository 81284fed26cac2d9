package node

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// propose changes the catalog. A failure is logged, once while it stays the
// same, and left to the next pass.
func (n *Node) propose(ctx context.Context, what string, command broker.MetaCommand) {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	if err := n.proposeHere(ctx, command.Encode()); err != nil {
		if n.refusal.Swap(err.Error()) != err.Error() {
			n.log.Warn("catalog change was refused", "what", what, "err", err)
		}
	}
}

func (n *Node) proposeHere(ctx context.Context, entry []byte) error {
	result, err := propose(ctx, n.metaGroup, entry)
	if refused, ok := result.(error); ok && err == nil {
		return refused
	}
	return err
}

// serveMeta does what only the meta group's leader can.
func (n *Node) serveMeta(ctx context.Context, method uint8, req []byte) ([]byte, error) {
	if method == methodCatalog {
		return nil, n.proposeHere(ctx, req)
	}
	var c protocol.ClusterChange
	if err := json.Unmarshal(req, &c); err != nil {
		return nil, protocol.BadRequest.Errorf("change of the cluster: %v", err)
	}
	changed, err := n.changeHere(ctx, c)
	if err != nil {
		return nil, err
	}
	return json.Marshal(changed)
}

// askMeta has the meta group's leader do something: this node if it leads, else
// the one that does. It goes on while surely nothing was done.
func (n *Node) askMeta(ctx context.Context, method uint8, req []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	for {
		answer, err := n.serveMeta(ctx, method, req)
		if leader, known := n.metaGroup.Leader(); errors.Is(err, broker.ErrNotLeader) && known && leader != n.home.NodeID {
			answer, err = n.link.Call(ctx, leader, method, req)
			err = fromLink(err)
		}
		if !errors.Is(err, broker.ErrNotLeader) && !errors.Is(err, broker.ErrUnreachable) {
			return answer, err
		}
		select {
		case <-ctx.Done():
			return nil, protocol.NoLeader.Errorf("the catalog has no leader that answers, so nothing was changed; try again (%v)", err)
		case <-time.After(retryPause):
		}
	}
}
