package protocol

import "time"

// The shapes of the server's answers (API.md §9), for servers to fill and for
// clients to decode.

// ClusterStatus is GET /v1/cluster.
type ClusterStatus struct {
	ClusterID  string            `json:"cluster_id"`
	Nodes      []NodeStatus      `json:"nodes"`
	Partitions []PartitionStatus `json:"partitions"`
	Meta       MetaStatus        `json:"meta"`
}

// NodeStatus is one node of a [ClusterStatus].
type NodeStatus struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	State      string    `json:"state"` // alive, suspect, dead, left or draining
	Role       string    `json:"role"`
	Zone       string    `json:"zone"`
	ClientAddr string    `json:"client_addr"`
	PeerAddr   string    `json:"peer_addr"`
	GossipAddr string    `json:"gossip_addr"`
	Version    string    `json:"version"`
	Started    time.Time `json:"started"`

	ClusterKeys []string `json:"cluster_keys,omitempty"` // fingerprints of those that it accepts, the one that it uses first
}

// PartitionStatus is one partition of a [ClusterStatus].
type PartitionStatus struct {
	ID       uint16          `json:"id"`
	Leader   string          `json:"leader"` // node name, "" while there is none
	Replicas []ReplicaStatus `json:"replicas"`
}

// MetaStatus is the catalog's own Raft group.
type MetaStatus struct {
	Leader   string          `json:"leader"`
	Replicas []ReplicaStatus `json:"replicas"`
}

// ReplicaStatus is one copy of a partition.
type ReplicaStatus struct {
	Node     string `json:"node"` // name
	Voter    bool   `json:"voter"`
	Current  bool   `json:"current"`  // it has had all that its leader had, since its node was started
	Position uint64 `json:"position"` // as far as this node knows it
	LagMS    int64  `json:"lag_ms"`   // since the replica was last known to have all of the leader's log
}

// TopicInfo is GET /v1/topics/{topic}; the list form leaves out Leader and
// Policy.
type TopicInfo struct {
	Topic       string  `json:"topic"`
	Partition   uint16  `json:"partition"`
	Leader      string  `json:"leader,omitempty"`
	Epoch       uint64  `json:"epoch"`
	FirstOffset uint64  `json:"first_offset"` // last_offset+1 when nothing is retained
	LastOffset  uint64  `json:"last_offset"`
	Events      uint64  `json:"events"`
	Bytes       uint64  `json:"bytes"`
	Readers     int     `json:"readers"` // at the nodes that answered in time
	Policy      *Policy `json:"policy,omitempty"`
}

// TopicList is GET /v1/topics.
type TopicList struct {
	Topics []TopicInfo `json:"topics"`
	Next   string      `json:"next,omitempty"`
}

// Policy is what holds for the topics of a pattern.
type Policy struct {
	Pattern   string `json:"pattern,omitempty"`
	MaxAge    string `json:"max_age,omitempty"` // a Go duration
	MaxEvents uint64 `json:"max_events,omitempty"`
	MaxBytes  uint64 `json:"max_bytes,omitempty"`
	Presence  string `json:"presence,omitempty"` // off, on or log
}

// PolicyList is GET /v1/policies.
type PolicyList struct {
	Policies []Policy `json:"policies"`
}

// Page is the answer to a poll.
type Page struct {
	Events   []Envelope `json:"events"`
	Cursor   string     `json:"cursor"`
	UpToDate bool       `json:"up_to_date"`
	Gaps     []Gap      `json:"gaps,omitempty"`
}

// PublishResult is the answer to one publish, as clients decode it: of a POST,
// of an entry of a batch, of a WebSocket command.
type PublishResult struct {
	Topic     string    `json:"topic"`
	Offset    uint64    `json:"offset,omitempty"`
	Epoch     uint64    `json:"epoch,omitempty"`
	ID        string    `json:"id"`
	Time      time.Time `json:"time"`
	Cursor    string    `json:"cursor,omitempty"`
	Duplicate bool      `json:"duplicate"`
	Error     *Problem  `json:"error,omitempty"` // batches only: this event was refused
}

// BatchResult is POST /v1/events.
type BatchResult struct {
	Results []PublishResult `json:"results"`
}

// Problem is an [Error] on the wire: application/problem+json over HTTP, the
// value of "error" in WebSocket replies and batches, where Title, Type and
// Status are left out and Message carries the detail.
type Problem struct {
	Type         string  `json:"type,omitempty"`
	Title        string  `json:"title,omitempty"`
	Status       int     `json:"status,omitempty"`
	Code         Code    `json:"code"`
	Detail       string  `json:"detail,omitempty"`
	Message      string  `json:"message,omitempty"`
	RetryAfterMS int64   `json:"retry_after_ms,omitempty"`
	Expected     *uint64 `json:"expected,omitempty"`
}

// Ticket is the answer of POST /v1/tickets: it opens one stream.
type Ticket struct {
	Ticket      string `json:"ticket"`
	ExpiresInMS int64  `json:"expires_in_ms"`
}

// Err turns the problem back into the error it was made from.
func (p *Problem) Err() *Error {
	detail := p.Detail
	if detail == "" {
		detail = p.Message
	}
	return &Error{Code: p.Code, Detail: detail, RetryAfter: time.Duration(p.RetryAfterMS) * time.Millisecond, Expected: p.Expected}
}
