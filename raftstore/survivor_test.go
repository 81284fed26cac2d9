package raftstore

import (
	"errors"
	"slices"
	"testing"
)

// offline opens a stopped node's store.
func (c *cluster) offline(id string) *Store {
	c.t.Helper()
	s, err := OpenOffline(Options{Dir: c.nodes[id].dir, NodeID: id})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = s.Close() })
	return s
}

func (c *cluster) survey(s *Store, id uint16) (Survey, []string) {
	c.t.Helper()
	seen := newEcho()
	survey, err := s.Survey(id, seen)
	if err != nil {
		c.t.Fatal(err)
	}
	return survey, seen.all()
}

// only opens a group of the one node that is left, which must lead it.
func (c *cluster) only(id string, group uint16, want ...string) {
	c.t.Helper()
	c.start(id)
	c.open(id, group, nil)
	n := c.nodes[id]
	n.machines[group].wait(c.t, len(want))
	if got := n.machines[group].all(); !slices.Equal(got, want) {
		c.t.Errorf("got %q, want %q", got, want)
	}
	c.propose(group, "more")
	if got := n.groups[group].Replicas(); len(got) != 1 || got[0].NodeID != id || !got[0].Voter {
		c.t.Errorf("got the replicas %+v, want this node alone", got)
	}
}

func TestASurvivorCarriesOnAloneWithAllThatItHas(t *testing.T) {
	for name, snapshot := range map[string]bool{"from its log": false, "from a snapshot": true} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 3, nil)
			c.openAll(1)
			c.propose(1, "a")
			c.propose(1, "b")
			c.nodes["node-2"].machines[1].wait(t, 2)
			if snapshot {
				if err := c.nodes["node-2"].groups[1].Snapshot(); err != nil {
					t.Fatal(err)
				}
			}
			for _, id := range c.ids() {
				c.stop(id)
			}
			s := c.offline("node-2")
			survey, seen := c.survey(s, 1)
			if !slices.Equal(seen, []string{"a", "b"}) || len(survey.Replicas) != 3 || survey.Index < 3 {
				t.Errorf("got %+v and %q, want three replicas, and a and b", survey, seen)
			}
			if err := s.Recover(1, []byte("mark")); err != nil {
				t.Fatal(err)
			}
			if after, _ := c.survey(s, 1); !after.After(survey) || len(after.Replicas) != 1 {
				t.Errorf("got %+v, want one replica that is ahead of %+v", after, survey)
			}
			_ = s.Close()
			c.only("node-2", 1, "a", "b", "mark")
			if newer := c.nodes["node-2"].groups[1].Term(); newer <= survey.Term {
				t.Errorf("got term %d, want one above %d", newer, survey.Term)
			}
		})
	}
}

func TestAGroupOfWhichNothingSurvivedIsBegunAnew(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.openAll(1)
	c.propose(1, "a")
	for _, id := range c.ids() {
		c.stop(id)
	}
	s := c.offline("node-1")
	if survey, _ := c.survey(s, 9); survey.Index != 0 {
		t.Errorf("got %+v of a group that is not there, want nothing", survey)
	}
	if err := errors.Join(s.Recover(9, []byte("mark")), s.SetAside(1)); err != nil {
		t.Fatal(err)
	}
	if survey, _ := c.survey(s, 1); survey.Index != 0 {
		t.Errorf("got %+v of a group that was set aside, want nothing", survey)
	}
	_ = s.Close()
	c.only("node-1", 9, "mark")
}

func TestAStoreThatIsOnlyLookedAtIsNotChanged(t *testing.T) {
	c := newCluster(t, 1, nil)
	c.openAll(1)
	c.propose(1, "a")
	c.stop("node-1")
	s, err := OpenToLook(Options{Dir: c.nodes["node-1"].dir, NodeID: "node-1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, got := c.survey(s, 1); !slices.Equal(got, []string{"a"}) {
		t.Errorf("got %q, want a", got)
	}
	if err := s.Recover(1, []byte("x")); !errors.Is(err, errLooks) {
		t.Errorf("recover: got %v, want %v", err, errLooks)
	}
	if err := s.SetAside(1); !errors.Is(err, errLooks) {
		t.Errorf("set aside: got %v, want %v", err, errLooks)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	c.only("node-1", 1, "a")
}
