package broker

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pushd/pushd/protocol"
)

// Meta is the catalog's state machine: what the meta group's log drives.
// Catalog changes are rare and small, so entries and snapshots are JSON.
type Meta struct {
	mu      sync.Mutex // serialises Apply and Restore
	catalog atomic.Pointer[Catalog]
	changes chan struct{}
}

// NewMeta is an empty catalog.
func NewMeta() *Meta {
	m := &Meta{changes: make(chan struct{}, 1)}
	m.catalog.Store(&Catalog{Nodes: map[string]CatalogNode{}})
	return m
}

// Catalog is the present catalog. Not to be changed.
func (m *Meta) Catalog() *Catalog { return m.catalog.Load() }

// Changes gets a signal after the catalog changed.
func (m *Meta) Changes() <-chan struct{} { return m.changes }

// A MetaCommand is one change of the catalog.
type MetaCommand interface{ Encode() []byte }

// CreateCluster founds the cluster with its first node, which gets every
// partition.
type CreateCluster struct {
	ClusterID  string
	CursorKey  []byte // drawn at random, for the cluster's life: see [Catalog]
	Partitions int
	Node       PutNode
}

// PutNode registers a node or changes it. A name that another node holds is
// refused.
type PutNode struct{ ID, Name, Zone, Role string }

// LeaveNode says that a node is to give its replicas away, and then to go.
type LeaveNode struct{ ID string }

// RemoveNode forgets a node that holds no replicas, for good: its id never comes
// back.
type RemoveNode struct{ ID string }

// SetReplicas says which nodes ought to hold a partition; the first is to lead.
type SetReplicas struct {
	Partition uint16
	Replicas  []string
}

// PutPolicy sets the policy of a pattern.
type PutPolicy struct{ Policy protocol.Policy }

// DeletePolicy removes the policy of a pattern.
type DeletePolicy struct{ Pattern string }

// Recover makes the cluster another one, of the nodes that survived, which have
// partitions as is given: all others are removed for good.
type Recover struct {
	ClusterID  string
	Partitions [][]string
	Survivors  []string
}

// metaEntry is an encoded command: one field is set.
type metaEntry struct {
	Create       *CreateCluster `json:"create,omitempty"`
	PutNode      *PutNode       `json:"put_node,omitempty"`
	LeaveNode    *LeaveNode     `json:"leave_node,omitempty"`
	RemoveNode   *RemoveNode    `json:"remove_node,omitempty"`
	SetReplicas  *SetReplicas   `json:"set_replicas,omitempty"`
	PutPolicy    *PutPolicy     `json:"put_policy,omitempty"`
	DeletePolicy *DeletePolicy  `json:"delete_policy,omitempty"`
	Recover      *Recover       `json:"recover,omitempty"`

	PutWebhook     *PutWebhook     `json:"put_webhook,omitempty"`
	DeleteWebhook  *DeleteWebhook  `json:"delete_webhook,omitempty"`
	WithoutWebhook *WithoutWebhook `json:"without_webhook,omitempty"`
	SetWebhookKey  *SetWebhookKey  `json:"set_webhook_key,omitempty"`
}

func (c CreateCluster) Encode() []byte { return encodeMeta(metaEntry{Create: &c}) }
func (c PutNode) Encode() []byte       { return encodeMeta(metaEntry{PutNode: &c}) }
func (c LeaveNode) Encode() []byte     { return encodeMeta(metaEntry{LeaveNode: &c}) }
func (c RemoveNode) Encode() []byte    { return encodeMeta(metaEntry{RemoveNode: &c}) }
func (c SetReplicas) Encode() []byte   { return encodeMeta(metaEntry{SetReplicas: &c}) }
func (c PutPolicy) Encode() []byte     { return encodeMeta(metaEntry{PutPolicy: &c}) }
func (c DeletePolicy) Encode() []byte  { return encodeMeta(metaEntry{DeletePolicy: &c}) }
func (c Recover) Encode() []byte       { return encodeMeta(metaEntry{Recover: &c}) }

func encodeMeta(e metaEntry) []byte {
	b, err := json.Marshal(e)
	if err != nil {
		panic("broker: encoding a catalog change: " + err.Error())
	}
	return b
}

// Apply changes the catalog and returns nil, or an error that says why the
// change was refused.
func (m *Meta) Apply(_ uint64, entry []byte) any {
	var e metaEntry
	if err := json.Unmarshal(entry, &e); err != nil {
		return fmt.Errorf("catalog entry: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.catalog.Load().clone()
	if err := next.apply(e); err != nil {
		return err
	}
	m.set(next)
	return nil
}

func (m *Meta) set(c *Catalog) {
	m.catalog.Store(c)
	select {
	case m.changes <- struct{}{}:
	default: // one signal is enough
	}
}

func (c *Catalog) clone() *Catalog {
	copied := *c
	copied.Partitions, copied.Nodes = slices.Clone(c.Partitions), maps.Clone(c.Nodes)
	return &copied
}

func (c *Catalog) apply(e metaEntry) error {
	switch {
	case e.Create != nil:
		return c.create(e.Create)
	case e.PutNode != nil:
		return c.putNode(*e.PutNode)
	case e.RemoveNode != nil:
		return c.removeNode(e.RemoveNode.ID)
	case e.LeaveNode != nil:
		return c.leaveNode(e.LeaveNode.ID)
	case e.SetReplicas != nil:
		if int(e.SetReplicas.Partition) >= len(c.Partitions) || len(e.SetReplicas.Replicas) == 0 {
			return fmt.Errorf("partition %d can't have the replicas %v", e.SetReplicas.Partition, e.SetReplicas.Replicas)
		}
		c.Partitions[e.SetReplicas.Partition] = e.SetReplicas.Replicas
	case e.PutPolicy != nil:
		if len(c.Policies) >= maxPolicies {
			return protocol.Conflict.Errorf("there are %d policies, more are not possible", maxPolicies)
		}
		c.dropPolicy(e.PutPolicy.Policy.Pattern) // gives a list of our own
		c.Policies = append(c.Policies, e.PutPolicy.Policy)
		sortPolicies(c.Policies)
	case e.DeletePolicy != nil:
		c.dropPolicy(e.DeletePolicy.Pattern)
	case e.Recover != nil:
		return c.recover(*e.Recover)
	default:
		return c.applyWebhook(e)
	}
	return nil
}

func (c *Catalog) create(e *CreateCluster) error {
	if c.ClusterID != "" {
		return fmt.Errorf("the cluster %s exists already", c.ClusterID)
	}
	c.ClusterID, c.CursorKey = e.ClusterID, e.CursorKey
	for range e.Partitions {
		c.Partitions = append(c.Partitions, []string{e.Node.ID})
	}
	return c.putNode(e.Node)
}

func (c *Catalog) putNode(n PutNode) error {
	for id, other := range c.Nodes {
		if other.Name == n.Name && id != n.ID {
			return fmt.Errorf("the node name %s is taken by node %s", n.Name, id)
		}
	}
	before, known := c.Nodes[n.ID]
	switch {
	case slices.Contains(c.Removed, n.ID):
		return fmt.Errorf("node %s was removed for good", n.ID)
	case !known && len(c.Nodes) >= maxNodes:
		return fmt.Errorf("there are %d nodes, more are not possible", maxNodes)
	}
	c.Nodes[n.ID] = CatalogNode{n.Name, n.Zone, n.Role, before.Leaving}
	return nil
}

func (c *Catalog) leaveNode(id string) error {
	n, ok := c.Nodes[id]
	if !ok {
		return fmt.Errorf("there is no node %s", id)
	}
	n.Leaving = true
	c.Nodes[id] = n
	return nil
}

func (c *Catalog) removeNode(id string) error {
	for p, replicas := range c.Partitions {
		if slices.Contains(replicas, id) {
			return fmt.Errorf("node %s still has a replica of partition %d", id, p)
		}
	}
	if _, ok := c.Nodes[id]; !ok {
		return nil
	}
	delete(c.Nodes, id)
	removed := c.Removed[max(0, len(c.Removed)+1-maxRemoved):]
	c.Removed = append(slices.Clone(removed), id)
	return nil
}

func (c *Catalog) recover(r Recover) error {
	if len(r.Partitions) != len(c.Partitions) || len(r.Survivors) == 0 {
		return fmt.Errorf("a recovery of %d partitions by %d nodes does not fit %d partitions", len(r.Partitions), len(r.Survivors), len(c.Partitions))
	}
	c.ClusterID, c.Partitions, c.Removed = r.ClusterID, r.Partitions, slices.Clone(c.Removed)
	for id, n := range c.Nodes {
		if slices.Contains(r.Survivors, id) {
			n.Leaving = false
			c.Nodes[id] = n
			continue
		}
		delete(c.Nodes, id)
		c.Removed = append(c.Removed[max(0, len(c.Removed)+1-maxRemoved):], id)
	}
	return nil
}

func (c *Catalog) dropPolicy(pattern string) {
	c.Policies = slices.DeleteFunc(slices.Clone(c.Policies), func(p protocol.Policy) bool { return p.Pattern == pattern })
}

// MetaSnapshot is the catalog at one entry.
type MetaSnapshot struct{ catalog *Catalog }

// Snapshot captures the catalog.
func (m *Meta) Snapshot() (*MetaSnapshot, error) { return &MetaSnapshot{m.catalog.Load()}, nil }

// Persist writes the catalog.
func (s *MetaSnapshot) Persist(w io.Writer) error { return json.NewEncoder(w).Encode(s.catalog) }

// Release does nothing: the catalog is immutable.
func (s *MetaSnapshot) Release() {}

// Restore replaces the catalog.
func (m *Meta) Restore(state io.Reader, _ string) error {
	c := &Catalog{}
	if err := json.NewDecoder(io.LimitReader(state, maxState)).Decode(c); err != nil {
		return fmt.Errorf("read the catalog's snapshot: %w", err)
	}
	if c.Nodes == nil {
		c.Nodes = map[string]CatalogNode{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.set(c)
	return nil
}
