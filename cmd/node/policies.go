package node

import (
	"context"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// policies keeps the cluster's policies: read here, changed at the meta group's
// leader.
type policies struct{ n *Node }

func (p policies) List(context.Context) ([]protocol.Policy, error) {
	return p.n.meta.Catalog().Policies, nil
}

func (p policies) Get(_ context.Context, pattern string) (protocol.Policy, error) {
	for _, policy := range p.n.meta.Catalog().Policies {
		if policy.Pattern == pattern {
			return policy, nil
		}
	}
	return protocol.Policy{}, protocol.NoSuchPolicy.Errorf("there is no policy for %s; set one with PUT", pattern)
}

func (p policies) Put(ctx context.Context, policy protocol.Policy) error {
	_, err := p.n.askMeta(ctx, methodCatalog, broker.PutPolicy{Policy: policy}.Encode())
	return err
}

func (p policies) Delete(ctx context.Context, pattern string) error {
	if _, err := p.Get(ctx, pattern); err != nil {
		return err
	}
	_, err := p.n.askMeta(ctx, methodCatalog, broker.DeletePolicy{Pattern: pattern}.Encode())
	return err
}
