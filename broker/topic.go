package broker

import (
	"crypto/sha256"
	"slices"

	"github.com/pushd/pushd/protocol"
)

// topic is what a partition knows of one topic. Offsets of an epoch are dense,
// so the retained events are first to last. There may be a million of them:
// what few have is in past.
type topic struct {
	name   string
	slot   uint32 // its place in the table; local to this replica's run
	chain  uint32 // slot + 1 of the next topic whose name has the same hash; 0: none
	epoch  uint64 // position of the event that made the topic
	first  uint64 // offset of the oldest retained event; last+1 if none is
	last   uint64
	bytes  uint64  // of retained records, as stored
	newest uint64  // position of the last event
	gone   uint64  // position of the last event that retention removed; 0: none
	lost   removal // when it did
	kept   *limits // what its policy lets it keep; local
	past   *past   // nil: never deleted, nor forgotten
	idle   int32   // minutes since 1970 since when housekeeping has found it empty; 0: it is not. Local
}

// past is what a topic was before, or of which it is a tomb.
type past struct {
	deleted uint64     // position of its deletion; 0: it exists
	restore uint64     // the restore that began it, while nobody else has published; 0: none
	source  uint64     // its epoch in what is restored
	epochs  []oldEpoch // deleted ones, for readers that had not seen all of them; oldest first
}

// oldEpoch is what is remembered of a deleted epoch.
type oldEpoch struct {
	epoch, last, newest uint64
	ended               uint64 // position of its end
	reason              protocol.GapReason
	apart               bool // indices do not have its records under the topic: it was forgotten in between
}

func (t *topic) exists() bool { return t.epoch != 0 && t.deleted() == 0 }

// deleted is the position of the topic's deletion; 0 if it exists.
func (t *topic) deleted() uint64 {
	if t.past == nil {
		return 0
	}
	return t.past.deleted
}

// old lists the deleted epochs that are remembered.
func (t *topic) old() []oldEpoch {
	if t.past == nil {
		return nil
	}
	return t.past.epochs
}

// history gives the topic's past, made if need be.
func (t *topic) history() *past {
	if t.past == nil {
		t.past = &past{}
	}
	return t.past
}

// ended adds the topic's epoch, which ends at a position, to those that are
// remembered: a new list of at most maxOldEpochs.
func (t *topic) ended(at uint64, reason protocol.GapReason) []oldEpoch {
	epochs := append(slices.Clone(t.old()), oldEpoch{epoch: t.epoch, last: t.last, newest: t.newest, ended: at, reason: reason})
	return epochs[max(0, len(epochs)-maxOldEpochs):]
}

// lostUpTo is the position of the topic's last event that can't be read any
// more, in whatever epoch.
func (t *topic) lostUpTo() uint64 {
	upTo := t.gone
	if t.past != nil {
		upTo = max(upTo, t.past.deleted)
		if n := len(t.past.epochs); n > 0 {
			upTo = max(upTo, t.past.epochs[n-1].newest)
		}
	}
	return upTo
}

func (t *topic) events() uint64 { return t.last + 1 - t.first }

// retains says whether the record at a position, which is of this name, is one
// that the topic still has.
func (t *topic) retains(position uint64) bool {
	return t.exists() && position > t.gone && position >= t.epoch && t.first <= t.last
}

// topicID names a topic in index files: a prefix of the name's SHA-256, so that
// nobody can choose a name that is taken for another's.
type topicID [16]byte

func idOf(name string) (id topicID) {
	sum := sha256.Sum256([]byte(name))
	copy(id[:], sum[:])
	return id
}

// limitsOf is what a topic's policy lets it keep, found anew only when policies
// have changed. p.mu is held for writing.
func (p *Partition) limitsOf(t *topic) *limits {
	catalog := p.policies()
	if by := catalog.policiesID(); t.kept == nil || t.kept.by != by {
		l := catalog.limits(t.name)
		l.by, l.since = by, catalog.policiesSince
		t.kept = p.shared(l)
	}
	return t.kept
}

// shared gives one copy of equal limits to all topics.
func (p *Partition) shared(l limits) *limits {
	if len(p.limitSets) > 0 && p.limitSets[0].by != l.by {
		p.limitSets = nil
	}
	for _, known := range p.limitSets {
		if *known == l {
			return known
		}
	}
	p.limitSets = append(p.limitSets, &l)
	return &l
}
