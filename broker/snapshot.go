package broker

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pushd/pushd/protocol"
)

const (
	snapshotVersion = 1
	maxSnapshot     = 1 << 30
)

// SnapshotFile is a file that belongs to a snapshot: unchanging up to Size.
type SnapshotFile struct {
	Name, Path string
	Size       int64
}

// PartitionSnapshot is a partition's state at one entry: small state, and the
// segments as they were.
type PartitionSnapshot struct {
	state    []byte
	files    []SnapshotFile
	segments []*segment
}

// Snapshot captures the state. Called by the apply goroutine.
func (p *Partition) Snapshot() (*PartitionSnapshot, error) {
	if n := len(p.segments); n > 0 {
		if err := p.segments[n-1].flush(); err != nil {
			return nil, err
		}
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	s := &PartitionSnapshot{}
	for _, g := range p.segments {
		if len(g.at) == 0 {
			continue // the next entry makes it again, under the same name
		}
		s.segments = append(s.segments, g)
		s.files = append(s.files, SnapshotFile{filepath.Base(g.path), g.path, g.size})
	}
	s.state = p.encodeState(s.files)
	return s, nil
}

// Files are the segments.
func (s *PartitionSnapshot) Files() []SnapshotFile { return s.files }

// Persist makes the segments durable, then writes the state.
func (s *PartitionSnapshot) Persist(w io.Writer) error {
	for _, g := range s.segments {
		if err := g.file.Sync(); err != nil && !errors.Is(err, os.ErrClosed) {
			return fmt.Errorf("sync %s: %w", g.path, err)
		}
	}
	if len(s.segments) > 0 {
		if err := syncDir(filepath.Dir(s.segments[0].path)); err != nil {
			return err
		}
	}
	_, err := w.Write(s.state)
	return err
}

// Release drops the state.
func (s *PartitionSnapshot) Release() { s.state, s.segments = nil, nil }

// encodeState writes version, counters, topics, ids and the list of segments,
// and a checksum. p.mu is held.
func (p *Partition) encodeState(files []SnapshotFile) []byte {
	b := []byte{snapshotVersion}
	for _, v := range []uint64{p.position, p.index, uint64(p.time)} {
		b = appendUvarint(b, v)
	}
	b = appendUvarint(b, uint64(len(p.byNumber)))
	for _, t := range p.byNumber {
		b = protocol.AppendBytes(b, t.name)
		for _, v := range []uint64{t.epoch, t.first, t.last, t.bytes, t.newest, t.gone, t.deleted, uint64(len(t.old))} {
			b = appendUvarint(b, v)
		}
		for _, o := range t.old {
			b = appendUvarint(appendUvarint(appendUvarint(b, o.epoch), o.last), o.newest)
		}
	}
	b = appendUvarint(b, uint64(len(p.buried)))
	for _, name := range p.buried {
		b = protocol.AppendBytes(b, name)
	}
	seen := p.dedupe.ring[p.dedupe.head:]
	b = appendUvarint(b, uint64(len(seen)))
	for _, s := range seen {
		for _, v := range []uint64{s.key[0], s.key[1], s.offset, s.epoch, s.position, uint64(s.time)} {
			b = binary.LittleEndian.AppendUint64(b, v)
		}
	}
	b = appendUvarint(b, uint64(len(files)))
	for _, f := range files {
		b = appendUvarint(protocol.AppendBytes(b, f.Name), uint64(f.Size))
	}
	b = p.appendConsumers(b)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crcTable))
}

// Restore replaces the state. dir is "" when the segments are in place already;
// otherwise it holds them, and they are moved.
func (p *Partition) Restore(state io.Reader, dir string) error {
	b, err := io.ReadAll(bufio.NewReader(io.LimitReader(state, maxSnapshot)))
	if err != nil {
		return fmt.Errorf("read the snapshot: %w", err)
	}
	next := newPartition(p.id, p.dir, p.tailMax, p.policies)
	files, err := next.decodeState(b)
	if err != nil {
		return err
	}
	if err := p.receive(dir, files); err != nil {
		return err
	}
	if err := next.openSegments(files); err != nil {
		return err
	}
	next.reconcile()
	p.mu.Lock()
	for _, s := range p.segments {
		s.close()
	}
	p.topics, p.byNumber, p.dedupe, p.segments = next.topics, next.byNumber, next.dedupe, next.segments
	p.position, p.index, p.time, p.buried, p.tail = next.position, next.index, next.time, next.buried, tail{}
	p.lostUpTo, p.swept, p.consumers = next.lostUpTo, time.Time{}, next.consumers
	var wake wakeList
	p.wakeEverybody(&wake)
	p.mu.Unlock()
	wake.run()
	return nil
}

func (p *Partition) decodeState(b []byte) ([]SnapshotFile, error) {
	if len(b) < 5 || crc32.Checksum(b[:len(b)-4], crcTable) != binary.LittleEndian.Uint32(b[len(b)-4:]) {
		return nil, fmt.Errorf("partition %d: snapshot: %w", p.id, ErrDamaged)
	}
	r := protocol.NewBinaryReader(b[:len(b)-4])
	if v := r.Byte(); v != snapshotVersion {
		return nil, fmt.Errorf("partition %d: snapshot of version %d, this pushd knows %d", p.id, v, snapshotVersion)
	}
	p.position, p.index, p.time = r.Uvarint(), r.Uvarint(), int64(r.Uvarint())
	for range r.Count(1<<30, 9) {
		t := p.intern(r.Text(protocol.MaxTopicBytes))
		for _, v := range []*uint64{&t.epoch, &t.first, &t.last, &t.bytes, &t.newest, &t.gone, &t.deleted} {
			*v = r.Uvarint()
		}
		for range r.Count(maxOldEpochs, 3) {
			t.old = append(t.old, oldEpoch{r.Uvarint(), r.Uvarint(), r.Uvarint()})
		}
		p.lostUpTo = max(p.lostUpTo, t.lostUpTo())
	}
	for range r.Count(maxTombstones, 2) {
		p.buried = append(p.buried, r.Text(protocol.MaxTopicBytes))
	}
	for range r.Count(1<<26, 48) {
		p.dedupe.add(seenID{
			idKey{r.Fixed64(), r.Fixed64()}, r.Fixed64(), r.Fixed64(), r.Fixed64(), int64(r.Fixed64()),
		})
	}
	files := make([]SnapshotFile, r.Count(1<<20, 2))
	for i := range files {
		files[i] = SnapshotFile{Name: r.Text(maxNameBytes), Size: int64(r.Uvarint())}
	}
	p.readConsumers(r)
	return files, r.Err()
}

// receive moves segments that came from another replica into place, and clears
// away what was there.
func (p *Partition) receive(dir string, files []SnapshotFile) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return err
	}
	for _, f := range files {
		if f.Name != filepath.Base(f.Name) || !strings.HasSuffix(f.Name, ".seg") {
			return fmt.Errorf("snapshot names the file %q: %w", f.Name, ErrDamaged)
		}
		err := os.Rename(filepath.Join(dir, f.Name), filepath.Join(p.dir, f.Name))
		if err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return syncDir(p.dir)
}

// syncDir makes the names of files durable: a segment whose name is lost looks
// like one that retention removed.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// reconcile lets topics forget what was in segments that retention removed after
// the snapshot was taken.
func (p *Partition) reconcile() {
	before := p.position
	if len(p.segments) > 0 {
		before = p.segments[0].first - 1
	}
	for _, t := range p.byNumber {
		if !t.exists() {
			continue
		}
		if kept := p.count(t, max(t.gone, t.epoch-1), p.position); kept < t.events() {
			t.first, t.gone, t.bytes = t.last+1-kept, max(t.gone, before), p.bytesOf(t, before)
			p.lostUpTo = max(p.lostUpTo, t.gone)
		}
	}
}

// bytesOf is what a topic's records behind a position take.
func (p *Partition) bytesOf(t *topic, after uint64) (n uint64) {
	for _, s := range p.segments {
		for _, rel := range s.after(t.number, after) {
			w := s.span(s.first + uint64(rel))
			n += uint64(w.to - w.from)
		}
	}
	return n
}

// openSegments indexes the segments of the snapshot and removes any other. A
// segment that retention took away meanwhile is skipped, from the front only.
func (p *Partition) openSegments(files []SnapshotFile) error {
	keep := map[string]bool{}
	for _, f := range files {
		path := filepath.Join(p.dir, f.Name)
		s, err := openSegment(path, f.Size, func(name string) uint32 { return p.intern(name).number })
		if os.IsNotExist(err) && len(p.segments) == 0 {
			continue
		}
		if err != nil {
			return err
		}
		keep[f.Name] = true
		p.segments = append(p.segments, s)
	}
	entries, err := os.ReadDir(p.dir)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".seg") && !keep[e.Name()] {
			if err := os.Remove(filepath.Join(p.dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
