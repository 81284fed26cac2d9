package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/pushd/pushd/protocol"
)

// Change asks the cluster to change itself: to remove a node, to move a replica
// or a leader, to spread them evenly. What the answer says is decided; it takes
// its time. A Node is wanted by [protocol.RemoveNode] alone.
func (c *Client) Change(ctx context.Context, change protocol.ClusterChange) (changed protocol.ClusterChanged, err error) {
	path := ""
	switch change.Kind {
	case protocol.RemoveNode:
		path = "nodes/" + url.PathEscape(change.Node) + "/remove"
	case protocol.Transfer, protocol.Move:
		path = fmt.Sprintf("partitions/%d/%s", change.Partition, change.Kind)
	case protocol.LeaveItself, protocol.Rebalance:
		path = string(change.Kind)
	default:
		return changed, protocol.BadRequest.Errorf("%q is no change of a cluster", change.Kind)
	}
	return changed, c.sendJSON(ctx, http.MethodPost, "/v1/cluster/"+path, change, &changed)
}

// Ready is nil if a server can serve any client, else it says what is missing.
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.oneRound(ctx, request{method: http.MethodGet, path: "/readyz"})
	return err
}

// Policies lists the policies, the most specific first.
func (c *Client) Policies(ctx context.Context) (list protocol.PolicyList, err error) {
	return list, c.getJSON(ctx, "/v1/policies", &list)
}

// PutPolicy sets the policy of p.Pattern in whole: what p leaves out has its
// default.
func (c *Client) PutPolicy(ctx context.Context, p protocol.Policy) (set protocol.Policy, err error) {
	return set, c.sendJSON(ctx, http.MethodPut, "/v1/policies/"+url.PathEscape(p.Pattern), p, &set)
}

// DeletePolicy removes the policy of a pattern.
func (c *Client) DeletePolicy(ctx context.Context, pattern string) error {
	_, err := c.oneRound(ctx, request{method: http.MethodDelete, path: "/v1/policies/" + url.PathEscape(pattern)})
	return err
}

// sendJSON sends v and reads the answer into answer.
func (c *Client) sendJSON(ctx context.Context, method, path string, v, answer any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode the request: %w", err)
	}
	header := http.Header{"Content-Type": {"application/json"}}
	got, err := c.oneRound(ctx, request{method: method, path: path, header: header, body: body})
	if err != nil {
		return err
	}
	return parse(got, answer)
}
