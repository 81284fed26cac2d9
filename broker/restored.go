package broker

import (
	"context"
	"errors"
	"slices"

	"github.com/pushd/pushd/protocol"
)

// Events of a snapshot file come back with their offsets, ids and times. All
// that one restore brings has its number: a topic that it began takes the next
// of its events and knows those that it has, any other topic is refused.

// restoredPart is what a log entry brings back of one partition's topics.
type restoredPart struct {
	restore uint64
	events  []protocol.Event
}

func encodeRestore(now int64, part *restoredPart) []byte {
	dst := appendUvarint([]byte{commandVersion, byte(commandRestore)}, uint64(now))
	dst = appendUvarint(appendUvarint(dst, part.restore), uint64(len(part.events)))
	for i := range part.events {
		dst = protocol.AppendEvent(dst, &part.events[i])
	}
	return dst
}

func readRestoredPart(r *protocol.BinaryReader) restoredPart {
	part := restoredPart{restore: r.Uvarint(), events: make([]protocol.Event, r.Count(maxBatchEvents, 9))}
	for i := range part.events {
		part.events[i] = r.ReadEvent()
	}
	return part
}

// restored stores the events of a part. p.mu is held.
func (p *Partition) restored(part restoredPart, now int64) []stored {
	results := make([]stored, len(part.events))
	for i := range part.events {
		results[i] = p.restoreEvent(part.restore, now, &part.events[i])
	}
	return results
}

func (p *Partition) restoreEvent(restore uint64, now int64, e *protocol.Event) stored {
	t := p.topics.find(e.Topic)
	if t == nil {
		t = p.raise(e.Topic)
	}
	switch {
	case !t.exists():
		p.revive(t)
		t.history().restore, t.past.source = restore, e.Epoch
		t.first, t.last = e.Offset, e.Offset-1
	case t.history().restore != restore:
		return stored{err: protocol.Conflict.Errorf("topic %s is there already; restore into a cluster without it, or delete it first (pushd topics rm %s)", e.Topic, e.Topic)}
	case e.Epoch > t.past.source: // it was deleted and made again while the snapshot was saved
		p.dropAll(t)
		t.past.epochs = t.ended(p.position+1, protocol.GapDeleted)
		p.lose(t, t.newest)
		p.revive(t)
		t.past.source, t.first, t.last = e.Epoch, e.Offset, e.Offset-1
	case e.Epoch < t.past.source, e.Offset <= t.last:
		return stored{offset: e.Offset, epoch: p.epochOf(t), position: t.newest, duplicate: true}
	case e.Offset > t.last+1: // retention took what was before it while the snapshot was saved
		p.dropAll(t)
		t.first, t.last, t.bytes, t.gone, t.lost = e.Offset, e.Offset-1, 0, t.newest, removalBy(p.position+1)
		p.lose(t, t.gone)
	}
	p.time = max(p.time, min(e.Time, now)) // times never go back within a partition, nor ahead of the leader's
	p.place(t, *e)
	if e.ID != "" && now-e.Time < int64(dedupeWindow) {
		p.dedupe.add(seenID{keyOf(t.name, e.Identity()), e.Offset, t.epoch, p.position, p.time})
	}
	p.wakeTopic(t)
	return stored{offset: e.Offset, epoch: p.epochOf(t), position: p.position, time: p.time}
}

// Restore stores events of a snapshot file. Errors are *[protocol.Error] values;
// what was stored before one stays.
func (b *Broker) Restore(ctx context.Context, restore uint64, events []protocol.Event) (result protocol.RestoreResult, err error) {
	catalog := b.catalog.Load()
	if len(catalog.Partitions) == 0 {
		return result, errNotJoined()
	}
	parts := map[uint16][]protocol.Event{}
	for i := range events {
		if err := expressible(&events[i]); err != nil {
			return result, err
		}
		id := catalog.partitionOf(events[i].Topic)
		parts[id] = append(parts[id], events[i])
	}
	for id, events := range parts {
		for len(events) > 0 {
			n := entryful(events)
			done, err := b.restorePart(ctx, id, &restoredPart{restore, events[:n]})
			if err == nil {
				err = count(&result, done)
			}
			if err != nil {
				return result, asUnavailable(err, id)
			}
			events = events[n:]
		}
	}
	return result, nil
}

// entryful is how many events go into one log entry.
func entryful(events []protocol.Event) (n int) {
	for size := 0; n < len(events) && n < maxBatchEvents; n++ {
		size += proposalSize(&proposal{event: events[n]})
		if n > 0 && size > maxBatchBytes {
			break
		}
	}
	return n
}

func count(result *protocol.RestoreResult, done []stored) error {
	for _, s := range done {
		switch {
		case s.err != nil:
			return s.err
		case s.duplicate:
			result.Known++
		default:
			result.Restored++
		}
	}
	return nil
}

// restorePart stores a part at the partition's leader.
func (b *Broker) restorePart(ctx context.Context, id uint16, part *restoredPart) ([]stored, error) {
	entry := encodeRestore(b.now().UnixNano(), part)
	for {
		done, err := b.restoreHere(ctx, id, entry, len(part.events))
		if errors.Is(err, ErrNotLeader) {
			var answer []byte
			if answer, err = b.callLeader(ctx, id, MethodRestore, append(appendUvarint(nil, uint64(id)), entry...)); err == nil {
				return decodeStored(answer, len(part.events))
			}
		}
		if err == nil || !nothingDone(err) {
			return done, err
		}
		if !Pause(ctx, retryPause) {
			return nil, err
		}
	}
}

func (b *Broker) restoreHere(ctx context.Context, id uint16, entry []byte, events int) ([]stored, error) {
	log := b.logOf(id)
	if log == nil || !log.IsLeader() {
		return nil, ErrNotLeader
	}
	result, err := log.Propose(ctx, entry)
	if err != nil {
		return nil, err
	}
	done, ok := result.([]stored)
	if !ok || len(done) != events {
		return nil, protocol.Internal.Errorf("partition %d answered a part of %d events with %v", id, events, result)
	}
	return done, nil
}

// serveRestore stores a part that another node was given.
func (b *Broker) serveRestore(ctx context.Context, req []byte) ([]byte, error) {
	r := protocol.NewBinaryReader(req)
	id := uint16(r.Uvarint())
	entry := slices.Clone(r.Rest())
	c, err := decodeCommand(entry, nil)
	if err != nil || c.kind != commandRestore {
		return nil, protocol.BadRequest.Errorf("restore: malformed part")
	}
	done, err := b.restoreHere(ctx, id, entry, len(c.restored.events))
	if err != nil {
		return nil, err
	}
	return appendStored(nil, done), nil
}
