package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"strings"
	"sync/atomic"

	"github.com/pushd/pushd/protocol"
)

// ErrDamaged says that stored bytes fail their checksum. They are never served.
var ErrDamaged = errors.New("stored event is damaged")

const (
	segmentMagic   = "pushdseg"
	segmentVersion = 2
	segmentHead    = 8 + 1 + 1 + 8 + 4 // magic, version, flags, first position, CRC-32C of these
	recordHead     = 4 + 4             // length, CRC-32C of what follows
	compacted      = 1                 // flag: records are missing between
	segmentSuffix  = ".seg"
	indexSuffix    = ".idx"
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// segment is one file of a partition's history. It grows until it is full, and
// then never changes, but that compaction may put another in its place.
type segment struct {
	path  string
	file  *os.File
	first uint64 // position of the first record, or of what was that before compaction
	final uint64 // position of the last record, likewise; first-1 if there is none
	size  int64  // bytes, unwritten ones included
	sum   uint32 // CRC-32C of the heads of segment and records, before compaction; 0: not known
	*index
	spoiled atomic.Bool // compaction has found a damaged record
	durable atomic.Bool // full, and synced
	release func()      // lets go of the index file; nil while the segment grows
	agreed  bool        // the partition's log has its sum

	// What of it is retained, in records and bytes: without any, it is removed.
	live      int
	liveBytes int64

	// unwritten are the last bytes, which follow the file's end; the apply goroutine's own.
	unwritten []byte
}

func segmentName(first uint64) string { return fmt.Sprintf("%020d", first) + segmentSuffix }

func indexPath(segment string) string {
	return strings.TrimSuffix(segment, segmentSuffix) + indexSuffix
}

func createSegment(path string, first uint64) (*segment, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(indexPath(path)); err != nil && !os.IsNotExist(err) {
		return nil, errors.Join(err, file.Close())
	}
	s := &segment{path: path, file: file, first: first, final: first - 1, index: &index{}}
	s.unwritten = appendSegmentHead(nil, 0, first)
	s.size, s.sum = segmentHead, crc32.Checksum(s.unwritten, crcTable)
	return s, nil
}

func appendSegmentHead(dst []byte, flags byte, first uint64) []byte {
	at := len(dst)
	dst = append(append(dst, segmentMagic...), segmentVersion, flags)
	dst = binary.LittleEndian.AppendUint64(dst, first)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[at:], crcTable))
}

// sealed says whether the segment is full and has its index file.
func (s *segment) sealed() bool { return s.dir != nil }

// full says whether the segment takes no more records.
func (s *segment) full() bool { return s.sealed() || s.size >= segmentBytes }

// sparse says whether records are missing between.
func (s *segment) sparse() bool { return s.place != nil }

// appendRecord writes one record's bytes: position, then the event; an event
// without an offset marks the deletion of its topic.
func appendRecord(dst []byte, position uint64, e *protocol.Event) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, recordHead)...)
	dst = binary.AppendUvarint(dst, position)
	dst = protocol.AppendEvent(dst, e)
	body := dst[start+recordHead:]
	binary.LittleEndian.PutUint32(dst[start:], uint32(len(body)))
	binary.LittleEndian.PutUint32(dst[start+4:], crc32.Checksum(body, crcTable))
	return dst
}

// append adds a record to the bytes to write, and indexes it under its topic.
func (s *segment) append(position uint64, slot uint32, e *protocol.Event) (size int64) {
	before := len(s.unwritten)
	s.unwritten = appendRecord(s.unwritten, position, e)
	s.add(slot, uint32(s.size), e.Time)
	record := s.unwritten[before:]
	s.sum = crc32.Update(s.sum, crcTable, record[:recordHead])
	s.size += int64(len(record))
	s.final = position
	if e.Offset != 0 {
		s.live++
		s.liveBytes += int64(len(record))
	}
	return int64(len(record))
}

// loses counts a record off what is retained.
func (s *segment) loses(w span) {
	s.live--
	s.liveBytes -= w.size()
}

// flush writes what append collected. Only the apply goroutine calls it.
func (s *segment) flush() error {
	if len(s.unwritten) == 0 {
		return nil
	}
	if _, err := s.file.WriteAt(s.unwritten, s.size-int64(len(s.unwritten))); err != nil {
		return fmt.Errorf("append to %s: %w", s.path, err)
	}
	s.unwritten = s.unwritten[:0]
	return nil
}

// span is where a record lies in the file.
type span struct {
	segment  *segment
	position uint64
	from, to int64
}

// span is where a record lies, by its number.
func (s *segment) span(i int) span {
	to := s.size
	if i+1 < s.len() {
		to = int64(u32(s.at, i+1))
	}
	return span{s, s.first + s.position(i), int64(u32(s.at, i)), to}
}

func (w span) size() int64 { return w.to - w.from }

// raw gives the bytes of a span that has been written, unless they are damaged.
func (w span) raw() ([]byte, *Record, error) {
	b := make([]byte, w.size())
	if _, err := w.segment.file.ReadAt(b, w.from); err != nil {
		if !errors.Is(err, os.ErrClosed) { // the file ends too early, or the disk can't read it
			err = errors.Join(err, ErrDamaged)
		}
		return nil, nil, fmt.Errorf("read %s at %d: %w", w.segment.path, w.from, err)
	}
	r, n, err := decodeRecord(b)
	if err == nil && (n != len(b) || r.Position != w.position) {
		err = ErrDamaged
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s at %d: %w", w.segment.path, w.from, err)
	}
	return b, r, nil
}

// read gives the event of a span that has been written, checked.
func (w span) read() (*Record, error) {
	_, r, err := w.raw()
	return r, err
}

// decodeRecord reads the record at the front of b and says how long it is.
func decodeRecord(b []byte) (*Record, int, error) {
	r := new(Record)
	n, err := r.decode(b, protocol.NewBinaryReader)
	if err != nil {
		return nil, 0, err
	}
	return r, n, nil
}

// decode reads the record at the front of b, as reader reads, and says how long
// it is.
func (record *Record) decode(b []byte, reader func([]byte) *protocol.BinaryReader) (int, error) {
	if len(b) < recordHead {
		return 0, ErrDamaged
	}
	n := int(binary.LittleEndian.Uint32(b))
	if n > len(b)-recordHead {
		return 0, ErrDamaged
	}
	body := b[recordHead : recordHead+n]
	if crc32.Checksum(body, crcTable) != binary.LittleEndian.Uint32(b[4:]) {
		return 0, ErrDamaged
	}
	r := reader(body)
	record.Position, record.Event = r.Uvarint(), r.ReadEvent()
	if r.Err() != nil || len(r.Rest()) > 0 {
		return 0, ErrDamaged
	}
	return recordHead + n, nil
}

// from is the number of the first record behind a position.
func (s *segment) from(after uint64) int {
	if after < s.first {
		return 0
	}
	return s.locate(after - s.first + 1)
}

// holds is the number of the record at a position, if it is there.
func (s *segment) holds(position uint64) (int, bool) {
	if position < s.first || position > s.final {
		return 0, false
	}
	i := s.locate(position - s.first)
	return i, i < s.len() && s.first+s.position(i) == position
}

// countOf is how many records of a topic lie behind one position up to another.
func (s *segment) countOf(o *owned, after, upTo uint64) int {
	owner, ok := s.ownerOf(o)
	if !ok || upTo < s.first {
		return 0
	}
	return s.count(owner, s.from(after), s.from(upTo))
}

// each visits a topic's records behind a position, until f says false.
func (s *segment) each(o *owned, after uint64, f func(i int) bool) bool {
	owner, ok := s.ownerOf(o)
	return !ok || s.visit(owner, s.from(after), f)
}

func (s *segment) close() {
	_ = s.file.Close()
	if s.release != nil {
		s.release()
	}
}

// removeSegment deletes a segment's file and its index's.
func removeSegment(path string) {
	_ = os.Remove(path)
	_ = os.Remove(indexPath(path))
}
