package protocol

// ChangeKind is what an operator asks of the cluster.
type ChangeKind string

// The kinds of changes.
const (
	RemoveNode  ChangeKind = "remove_node" // Node leaves for good; its replicas are moved first, or replaced if it is dead
	Transfer    ChangeKind = "transfer"    // To, which has a replica, leads Partition
	Move        ChangeKind = "move"        // the replica of Partition at From goes to To
	Rebalance   ChangeKind = "rebalance"   // replicas and leaders are spread evenly
	LeaveItself ChangeKind = "leave"       // the node that is asked leaves for good
)

// ClusterChange is the body of POST /v1/cluster/…, where the path does not say
// it already. Nodes are given by name or id.
type ClusterChange struct {
	Kind      ChangeKind `json:"kind,omitempty"`
	Node      string     `json:"node,omitempty"`
	Partition uint16     `json:"partition,omitempty"`
	From      string     `json:"from,omitempty"`
	To        string     `json:"to,omitempty"`
	Force     bool       `json:"force,omitempty"` // remove a node only if it is dead, and wait for nothing
}

// ClusterChanged answers a [ClusterChange]: what was decided. The cluster does
// it from then on; GET /v1/cluster shows how far it is.
type ClusterChanged struct {
	Detail     string            `json:"detail"`
	Partitions []PartitionTarget `json:"partitions"` // those with new replicas or a new leader to be
}

// PartitionTarget is where a partition is to be: the first node is to lead.
type PartitionTarget struct {
	ID       uint16   `json:"id"`
	Replicas []string `json:"replicas"` // node names
}
