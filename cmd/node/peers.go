package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/cluster"
	"github.com/pushd/pushd/protocol"
)

// Methods of the peer link beside the broker's own, which are below 200.
const (
	methodReport  uint8 = 200 + iota // how the asked node's replicas are; JSON
	methodDrop                       // the asked node's replica of a partition was removed
	methodCatalog                    // a change of the catalog, for the meta group's leader
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
