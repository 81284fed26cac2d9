package node

import (
	"context"
	"slices"

	"github.com/pushd/pushd/cluster"
	"github.com/pushd/pushd/edge"
	"github.com/pushd/pushd/protocol"
)

// presence is who is in which topic, where its policy allows it.
type presence struct{ n *Node }

// startPresence lets this node's members be known.
func (n *Node) startPresence(running context.Context) {
	n.presence = cluster.StartPresence(cluster.PresenceOptions{Cluster: n.gossip, Calls: n.link, Log: n.log})
	n.recorder = newRecorder(running, n)
	for _, method := range []uint8{cluster.MethodPresenceTally, cluster.MethodPresenceMembers} {
		n.link.Handle(method, func(ctx context.Context, from string, req []byte) ([]byte, error) {
			return n.presence.ServeCall(ctx, from, method, req)
		})
	}
	n.link.Handle(methodRecord, func(_ context.Context, _ string, req []byte) ([]byte, error) {
		return nil, toLink(n.recorder.serve(req))
	})
	n.wg.Go(n.recorder.run)
}

func (p presence) Join(ctx context.Context, topics []string, id string, info []byte, tell func(*protocol.PresenceChange)) ([]edge.Attendance, []protocol.PresenceList, error) {
	for _, topic := range topics {
		if err := p.allowed(topic); err != nil {
			return nil, nil, err
		}
	}
	joined, lists := p.n.presence.Join(ctx, topics, id, info, tell)
	out := make([]edge.Attendance, len(joined))
	for i, a := range joined {
		out[i] = a
	}
	if slices.ContainsFunc(topics, p.n.records) {
		p.n.recorder.notice()
	}
	return out, lists, nil
}

func (p presence) List(ctx context.Context, topic, after string, limit int) (protocol.PresenceList, error) {
	if err := p.allowed(topic); err != nil {
		return protocol.PresenceList{}, err
	}
	return p.n.presence.List(ctx, topic, after, limit), nil
}

func (p presence) Count(ctx context.Context, topic string) (int, error) {
	if err := p.allowed(topic); err != nil {
		return 0, err
	}
	return p.n.presence.Count(ctx, topic), nil
}

func (p presence) allowed(topic string) error {
	policy, _ := p.n.meta.Catalog().Policy(topic)
	switch {
	case policy.Presence == "off":
		return protocol.PresenceOff.Errorf("the policy of %s says that presence is off for %s", policy.Pattern, topic)
	case policy.Presence == "log" && len(recordPrefix+topic) > protocol.MaxTopicBytes:
		return protocol.BadTopic.Errorf("presence in %s is to be recorded in %s%s, whose name would be too long; use a name of at most %d bytes", topic, recordPrefix, topic, protocol.MaxTopicBytes-len(recordPrefix))
	}
	return nil
}
