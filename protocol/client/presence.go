package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"

	"github.com/pushd/pushd/protocol"
)

// Attend asks for presence with a subscription: its topics, which must be named
// in full, then give a [Delivery] with Presence for what changes in them, and
// first, but for polls, one with the members that are there.
type Attend struct {
	Member string          // who this is, where there are no tokens; "" over streams: nobody in particular
	Info   json.RawMessage // what the member says of itself; JSON of at most 1 KiB
	Watch  bool            // be told without being a member
}

// Presence lists the members of a topic behind an id, at most limit (1 to 1000).
func (c *Client) Presence(ctx context.Context, topic, after string, limit int) (list protocol.PresenceList, err error) {
	q := url.Values{"after": {after}, "limit": {strconv.Itoa(limit)}}
	return list, c.getJSON(ctx, "/v1/topics/"+url.PathEscape(topic)+"/presence?"+q.Encode(), &list)
}

// PresenceCount is how many members a topic has.
func (c *Client) PresenceCount(ctx context.Context, topic string) (int, error) {
	var list protocol.PresenceList
	err := c.getJSON(ctx, "/v1/topics/"+url.PathEscape(topic)+"/presence?count_only=1", &list)
	return list.Count, err
}

// query asks for presence in a URL.
func (a *Attend) query(v url.Values) {
	if a == nil {
		return
	}
	v.Set("presence", "1")
	if a.Watch {
		v.Set("presence", "watch")
	}
	if a.Member != "" {
		v.Set("member", a.Member)
	}
	if len(a.Info) > 0 {
		v.Set("info", string(a.Info))
	}
}

// command asks for presence in a subscribe command.
func (a *Attend) command(c *protocol.SubscribeCommand) {
	if a != nil {
		c.Presence, c.Watch, c.Member, c.Info = true, a.Watch, a.Member, a.Info
	}
}

// firstMembers are the members that a subscribe's reply brought.
func firstMembers(lists []protocol.PresenceList) (out []Delivery) {
	for i := range lists {
		l := &lists[i]
		out = append(out, Delivery{Presence: &protocol.Presence{Topic: l.Topic, Count: l.Count, Members: l.Members, Next: l.Next}})
	}
	return out
}

// presenceBatch reads a block of presence.
func presenceBatch(data []byte) (b batch, err error) {
	p := &protocol.Presence{}
	if err := json.Unmarshal(data, p); err != nil {
		return b, fmt.Errorf("read presence: %w", err)
	}
	b.deliveries = []Delivery{{Presence: p}}
	return b, nil
}
