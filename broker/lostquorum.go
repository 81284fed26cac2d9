package broker

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/pushd/pushd/protocol"
)

// A partition that lost the quorum of its replicas, and whose survivor was made
// to carry on by force, may lack events that were acknowledged: how many, nobody
// can say. Its log says where that happened, so that all replicas do the same:
// positions leap beyond any that the lost replicas can have given away, all
// topics change epoch, and whoever reads across the place is told of a gap.
// Events that are there keep their offsets, and are of the new epoch.

// EncodeLostQuorum is the log entry by which a partition carries on without the
// replicas that had its quorum.
func EncodeLostQuorum(now int64) []byte {
	dst := appendUvarint([]byte{commandVersion, byte(commandLostQuorum)}, uint64(now))
	return appendUvarint(dst, lostQuorumLeap)
}

// EntryTime is the leader's time, in nanoseconds since 1970, of an entry of a
// partition's log; 0 if it is none.
func EntryTime(entry []byte) int64 {
	c, err := decodeCommand(entry, nil)
	if err != nil {
		return 0
	}
	return c.time
}

// carryOn applies such an entry. p.mu is held, and the segments are written: the
// tail's positions must be dense.
func (p *Partition) carryOn(leap uint64) {
	p.position += leap
	p.lostQuorum = p.position
	p.lostUpTo = max(p.lostUpTo, p.lostQuorum)
	p.tail = tail{}
}

// epochOf is the epoch of a topic's events. t.epoch is where they begin.
func (p *Partition) epochOf(t *topic) uint64 { return max(t.epoch, p.lostQuorum) }

// lostWithQuorum tells a reader that passes the place, once for each of its
// selectors. p.mu is held.
func (p *Partition) lostWithQuorum(w want, upTo uint64) (gaps []lostRange) {
	if p.lostQuorum <= w.after || p.lostQuorum > upTo {
		return nil
	}
	add := func(name string, epoch uint64) {
		gaps = append(gaps, lostRange{
			name: name, epoch: epoch, reason: protocol.GapEpochChanged,
			at: p.lostQuorum, until: p.lostQuorum, ended: p.lostQuorum, over: true,
		})
	}
	switch {
	case w.single != "":
		add(w.single, p.lostQuorum)
	case w.selectors != nil:
		for _, name := range w.selectors() {
			add(name, p.lostQuorum)
		}
	default:
		for t := range p.everKnown() {
			if len(gaps) < maxLostWithQuorum && t.epoch <= p.lostQuorum && w.matches(t) {
				add(t.name, p.lostQuorum)
			}
		}
	}
	return gaps
}

// beyond is how far an index is looked through at once from a position on: so
// many positions, not counting those that no segment has.
func (p *Partition) beyond(after uint64) uint64 {
	if i := p.segmentOf(after + 1); i < len(p.segments) {
		return max(after, p.segments[i].first-1) + listSpan
	}
	return p.position
}

// StateTime is the time of the newest event, in nanoseconds since 1970, of what a
// [PartitionSnapshot] persisted.
func StateTime(state io.ByteReader) (int64, error) {
	version, err := state.ReadByte()
	if err != nil {
		return 0, fmt.Errorf("snapshot: %w", err)
	}
	if err := checkStateVersion(version); err != nil {
		return 0, err
	}
	var v uint64
	for range 3 { // position, index, time: as encodeState writes them
		if v, err = binary.ReadUvarint(state); err != nil {
			return 0, fmt.Errorf("snapshot: %w", err)
		}
	}
	return int64(v), nil
}
