package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pushd/pushd/protocol"
)

// A record whose checksum fails is never given to anyone. Its bytes are the same
// at every replica, so they are fetched from another and written over the
// damaged ones. Readers wait meanwhile.

// damagedError names the record.
type damagedError struct {
	position uint64
	err      error
}

func (e *damagedError) Error() string { return e.err.Error() }
func (e *damagedError) Unwrap() error { return e.err }

// repairs are a partition's damaged records.
type repairs struct {
	running map[uint64]struct{}
	failed  map[uint64]time.Time // when
}

// startRepair begins to repair a record, and says whether its reader should wait.
func (b *Broker) startRepair(p *Partition, err error) bool {
	d, ok := errors.AsType[*damagedError](err)
	if !ok || b.peers == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, running := p.repairs.running[d.position]; running {
		return true
	}
	if b.now().Sub(p.repairs.failed[d.position]) < repairPause {
		return false
	}
	if p.repairs.running == nil {
		p.repairs.running, p.repairs.failed = map[uint64]struct{}{}, map[uint64]time.Time{}
	}
	p.repairs.running[d.position] = struct{}{}
	b.spawn(func() { b.repairAndWake(p, d) })
	return true
}

func (b *Broker) repairAndWake(p *Partition, d *damagedError) {
	err := b.repair(p, d)
	p.mu.Lock()
	delete(p.repairs.running, d.position)
	delete(p.repairs.failed, d.position)
	if err != nil {
		p.repairs.failed[d.position] = b.now()
	}
	p.mu.Unlock()
	p.wakeEverybody()
}

// repair fetches a record from another replica and writes it.
func (b *Broker) repair(p *Partition, d *damagedError) error {
	req := appendUvarint(appendUvarint(nil, uint64(p.id)), d.position)
	err := fmt.Errorf("no other replica has it: %w", d.err)
	for _, node := range b.replicaNodes(p.id) {
		ctx, cancel := context.WithTimeout(b.running, remoteTimeout)
		var raw []byte
		raw, err = b.peers.Call(ctx, node, MethodRecord, req)
		cancel()
		if err == nil {
			err = p.mend(d.position, raw)
		}
		if err == nil {
			b.log.Warn("a damaged event was repaired from another replica; look after this node's disk",
				"partition", p.id, "position", d.position, "from", node, "err", d.err)
			return nil
		}
	}
	b.log.Error("a damaged event can not be repaired; readers are refused here and served by other replicas",
		"partition", p.id, "position", d.position, "damage", d.err, "err", err)
	return err
}

// mend writes a record's bytes over what stands in their place.
func (p *Partition) mend(position uint64, raw []byte) error {
	r, n, err := decodeRecord(raw)
	if err != nil || n != len(raw) || r.Position != position {
		return fmt.Errorf("another replica's record at position %d: %w", position, ErrDamaged)
	}
	w, ok := p.spanOf(position)
	if !ok {
		return nil // retention took it
	}
	if w.size() != int64(len(raw)) {
		return fmt.Errorf("the record at position %d has %d bytes here and %d elsewhere: %w", position, w.size(), len(raw), ErrDamaged)
	}
	if _, err := w.segment.file.WriteAt(raw, w.from); err != nil {
		return fmt.Errorf("repair %s: %w", w.segment.path, err)
	}
	if err := w.segment.file.Sync(); err != nil {
		return fmt.Errorf("repair %s: %w", w.segment.path, err)
	}
	w.segment.spoiled.Store(false)
	_, err = w.read()
	return err
}

// serveRecord gives another replica a record's bytes.
func (b *Broker) serveRecord(req []byte) ([]byte, error) {
	r := protocol.NewBinaryReader(req)
	id, position := uint16(r.Uvarint()), r.Uvarint()
	p := b.local(id)
	if r.Err() != nil || p == nil {
		return nil, errNoReplica(id)
	}
	w, ok := p.spanOf(position)
	if !ok {
		return nil, protocol.NoSuchTopic.Errorf("position %d of partition %d is not retained here", position, id)
	}
	raw, _, err := w.raw()
	if err != nil {
		return nil, b.unreadable(id, err)
	}
	return raw, nil
}
