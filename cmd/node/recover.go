package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/raftstore"
)

// RecoverOptions say how a cluster that lost its quorum carries on.
type RecoverOptions struct {
	DataDir      string
	Survivors    []Inspection // what the other survivors have; none: this node is the only one
	RecreateLost bool         // partitions that no survivor has begin anew, empty
	Yes          bool         // else nothing is changed
	Log          *slog.Logger // nil discards
}

// Inspect tells what the data directory of a node that does not run has, and
// leaves damage as it is: of replicas that it may have hit there is nothing.
func Inspect(dir string) (Inspection, error) {
	r, err := atRest(dir, raftstore.OpenToLook, raftstore.Options{})
	if err != nil {
		return Inspection{}, err
	}
	defer r.close()
	return r.inspect()
}

// Recover has the cluster of a node that does not run carry on with the survivors
// alone, once all of them were recovered alike. Without Yes it only says what it
// would do. One that was cut short goes on as it was begun.
func Recover(o RecoverOptions) (plan RecoveryPlan, err error) {
	by := asideBy
	if o.RecreateLost {
		by = "with --yes, too,"
	}
	r, err := openRest(o.DataDir, o.RecreateLost && o.Yes, by, o.Log)
	if err != nil {
		return plan, err
	}
	defer r.close()
	if r.home.Recovering != "" {
		if plan, err = r.begun(); err != nil || !o.Yes {
			return plan, err
		}
		return plan, r.carryOut(plan)
	}
	own, err := r.inspect()
	if err != nil {
		return plan, err
	}
	if plan, err = planRecovery(append([]Inspection{own}, o.Survivors...)); err != nil || !o.Yes {
		return plan, err
	}
	if len(plan.Lost) > 0 && !o.RecreateLost {
		return plan, fmt.Errorf("no survivor has a replica of %d partitions (%v): give what all survivors have with --survivor, or have them begin anew, empty, with --recreate-lost; nothing was changed", len(plan.Lost), plan.Lost)
	}
	return plan, r.carryOut(plan)
}

// rest is what there is of a node that does not run.
type rest struct {
	home    *home
	store   *raftstore.Store
	meta    *broker.Meta
	fatal   chan error               // capacity 1
	rebuild func(damage error) error // nil: damage is only looked at
}

// asideBy is how a recovery is told to put damaged replicas aside.
const asideBy = "with --recreate-lost and --yes"

// openRest opens an existing data directory. With damaged set, what of it can't be
// trusted is put aside, as if it was not there; else that is refused, with how to do it,
// and nothing is changed.
func openRest(dir string, damaged bool, by string, log *slog.Logger) (*rest, error) {
	return atRest(dir, raftstore.OpenOffline, raftstore.Options{Log: log, Rebuild: func(damage error) error {
		if !damaged {
			return fmt.Errorf("%w: %s it is put aside, and begun anew if no other survivor has it; nothing was changed", damage, by)
		}
		return nil
	}})
}

func atRest(dir string, open func(raftstore.Options) (*raftstore.Store, error), o raftstore.Options) (*rest, error) {
	if _, err := os.Stat(filepath.Join(dir, identityFile)); err != nil {
		return nil, fmt.Errorf("%s is no node's data directory: %w", dir, err)
	}
	h, err := openHome(dir, homeAtRest)
	if err != nil {
		return nil, err
	}
	r := &rest{home: h, meta: broker.NewMeta(), fatal: make(chan error, 1), rebuild: o.Rebuild}
	o.Dir, o.NodeID, o.Fatal = h.dir, h.NodeID, func(err error) { r.fatal <- err }
	if r.store, err = open(o); err != nil {
		h.close()
		return nil, err
	}
	return r, nil
}

func (r *rest) close() {
	_ = r.store.Close()
	r.home.close()
}

// inspect replays the catalog, and looks at all partitions.
func (r *rest) inspect() (Inspection, error) {
	catalog, err := r.store.Survey(metaGroup, metaMachine{r.meta})
	if err != nil {
		return Inspection{}, fmt.Errorf("the catalog's replica: %w", err)
	}
	c := r.meta.Catalog()
	if c.ClusterID == "" {
		return Inspection{}, fmt.Errorf("the node of %s has not got its cluster's catalog, so it can't be recovered from; use another survivor's data directory", r.home.dir)
	}
	self := c.Nodes[r.home.NodeID]
	in := Inspection{NodeName: NodeName{r.home.NodeID, self.Name}, Role: self.Role, ClusterID: r.home.ClusterID, Catalog: held(catalog, 0)}
	for _, id := range slices.Sorted(maps.Keys(c.Nodes)) {
		in.Nodes = append(in.Nodes, NodeName{id, c.Nodes[id].Name})
	}
	for p := range c.Partitions {
		var last newest
		survey, err := r.store.Survey(groupOf(uint16(p)), &last)
		h := held(survey, int64(last))
		if errors.Is(err, raftstore.ErrDamaged) {
			h, err = Held{Damaged: true}, r.putAside(groupOf(uint16(p)), err)
		}
		if err != nil {
			return Inspection{}, fmt.Errorf("this node's replica of partition %d: %w", p, err)
		}
		in.Partitions = append(in.Partitions, h)
	}
	return in, nil
}

// putAside does with damage to one replica what the store did with that to its log.
func (r *rest) putAside(group uint16, damage error) error {
	if r.rebuild == nil {
		return nil
	}
	if err := r.rebuild(damage); err != nil {
		return err
	}
	return r.store.SetAside(group)
}

func held(s raftstore.Survey, newest int64) Held {
	h := Held{Index: s.Index, Term: s.Term}
	for _, r := range s.Replicas {
		h.Replicas = append(h.Replicas, r.NodeID)
	}
	if newest > 0 {
		h.Newest = time.Unix(0, newest).UTC()
	}
	return h
}

// carryOut makes the plan true here. It may be cut short anywhere, and be done
// again: the node does not start in between.
func (r *rest) carryOut(plan RecoveryPlan) error {
	done := make(chan error, 1)
	go func() { done <- r.change(plan) }()
	select {
	case err := <-done:
		return err
	case err := <-r.fatal:
		return fmt.Errorf("%w: %w", ErrDisk, err)
	}
}

func (r *rest) change(plan RecoveryPlan) error {
	if r.home.Recovering == "" {
		plan.Begun = time.Now().UTC()
		if err := plan.write(r.home); err != nil {
			return err
		}
		r.home.Recovering = plan.ClusterID
		if err := r.home.save(); err != nil {
			return err
		}
	}
	self := r.home.NodeID
	if err := r.alone(metaGroup, plan.Catalog.ID == self, plan.catalogChange().Encode()); err != nil {
		return fmt.Errorf("the catalog's replica: %w", err)
	}
	for _, p := range plan.Partitions {
		if err := r.alone(groupOf(p.Partition), p.From.ID == self, broker.EncodeLostQuorum(plan.Begun.UnixNano())); err != nil {
			return fmt.Errorf("this node's replica of partition %d: %w", p.Partition, err)
		}
	}
	if err := r.forgetPeers(plan.Survivors); err != nil {
		return err
	}
	plan.Finished = time.Now().UTC()
	if err := plan.write(r.home); err != nil {
		return err
	}
	r.home.ClusterID, r.home.Founded, r.home.Recovering = plan.ClusterID, true, ""
	return r.home.save()
}

// alone makes this node a group's only voter, or puts what it has of it aside.
func (r *rest) alone(group uint16, holder bool, entry []byte) error {
	if holder {
		return r.store.Recover(group, entry)
	}
	return r.store.SetAside(group)
}

// forgetPeers leaves the survivors' addresses alone to be asked.
func (r *rest) forgetPeers(survivors []NodeName) error {
	known := r.home.peers()
	maps.DeleteFunc(known, func(id, _ string) bool {
		return !slices.ContainsFunc(survivors, func(n NodeName) bool { return n.ID == id })
	})
	text, err := json.Marshal(known)
	if err != nil {
		return err
	}
	return writeDurably(r.home.path(peersFile), text)
}
