package broker

import (
	"slices"
	"strings"
	"time"

	"github.com/pushd/pushd/protocol"
)

// Catalog is what the meta group has decided: an immutable copy.
type Catalog struct {
	ClusterID  string // "" until the cluster is founded
	CursorKey  []byte `json:",omitempty"` // what cursors are signed by, which no client gets to see
	Partitions [][]string
	Nodes      map[string]CatalogNode // by id
	Policies   []protocol.Policy      // most specific first
	Removed    []string               `json:",omitempty"` // ids that never come back, oldest first
	Webhooks   []*Webhook             // by id
	WebhookKey string                 // fingerprint of the key that seals their secrets; "" before the first

	policiesSince int64 // nanoseconds since 1970 when the broker that has this got the policies, or began
}

// CatalogNode is a registered node.
type CatalogNode struct {
	Name, Zone, Role string
	Leaving          bool `json:",omitempty"` // its replicas are to go elsewhere, and then it is removed
}

// Salt binds cursors to the cluster, recovered or not.
func (c *Catalog) Salt() protocol.Salt {
	origin, _ := protocol.Recoveries(c.ClusterID)
	return protocol.SaltOf(origin + string(c.CursorKey))
}

// partitionOf places a topic.
func (c *Catalog) partitionOf(topic string) uint16 {
	return uint16(protocol.TopicHash(topic) % uint64(len(c.Partitions)))
}

// limits are what a topic may keep.
type limits struct {
	age           time.Duration
	events, bytes uint64
	by            *protocol.Policy // the policies it was taken from: see policiesID
	since         int64            // as the catalog's policiesSince
}

// policiesID tells one list of policies from another: a changed list is a new
// one.
func (c *Catalog) policiesID() *protocol.Policy {
	if len(c.Policies) == 0 {
		return nil
	}
	return &c.Policies[0]
}

func (c *Catalog) limits(topic string) limits {
	l := limits{age: defaultMaxAge, events: defaultMaxCount, bytes: defaultMaxBytes}
	p, ok := c.Policy(topic)
	if !ok {
		return l
	}
	if d, err := time.ParseDuration(p.MaxAge); err == nil && d > 0 {
		l.age = d
	}
	if p.MaxEvents > 0 {
		l.events = p.MaxEvents
	}
	if p.MaxBytes > 0 {
		l.bytes = p.MaxBytes
	}
	return l
}

// Policy is the most specific policy whose pattern covers the topic.
func (c *Catalog) Policy(topic string) (protocol.Policy, bool) {
	for _, p := range c.Policies {
		if s, err := protocol.ParseSelector(p.Pattern); err == nil && s.Match(topic) {
			return p, true
		}
	}
	return protocol.Policy{}, false
}

// sortPolicies puts the most specific pattern first: an exact topic before any
// pattern, then the one with more literal segments, then the longer.
func sortPolicies(list []protocol.Policy) {
	rank := func(pattern string) int {
		n := 0
		for seg := range strings.SplitSeq(pattern, ".") {
			switch seg {
			case "**":
			case "*":
				n++
			default:
				n += 1000
			}
		}
		if !strings.Contains(pattern, "*") {
			n += 1 << 24
		}
		return n
	}
	slices.SortFunc(list, func(a, b protocol.Policy) int {
		if d := rank(b.Pattern) - rank(a.Pattern); d != 0 {
			return d
		}
		return strings.Compare(a.Pattern, b.Pattern)
	})
}
