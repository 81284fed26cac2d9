package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sort"

	"github.com/pushd/pushd/protocol"
)

// ErrDamaged says that stored bytes fail their checksum. They are never served.
var ErrDamaged = errors.New("stored event is damaged")

const (
	segmentMagic   = "pushdseg"
	segmentVersion = 1
	segmentHead    = 8 + 1 + 8 // magic, version, first position
	recordHead     = 4 + 4     // length, CRC-32C of what follows
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// segment is one file of a partition's history. It is appended to until it is
// full, and then never changes. Which events it holds is indexed in memory.
type segment struct {
	path  string
	file  *os.File
	first uint64   // position of the first record
	at    []uint32 // file offset of each record, by position - first
	size  int64    // bytes, unwritten ones included
	owner []uint32 // topic number of each record
	times []int64  // of each record, never going back
	// unwritten are the last bytes, which follow the file's end; the apply goroutine's own.
	unwritten []byte
	topics    map[uint32][]uint32 // topic number: its records, as position - first, ascending
}

func segmentName(first uint64) string { return fmt.Sprintf("%020d.seg", first) }

func createSegment(path string, first uint64) (*segment, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	s := &segment{path: path, file: file, first: first, topics: map[uint32][]uint32{}}
	s.unwritten = append(append(s.unwritten, segmentMagic...), segmentVersion)
	s.unwritten = binary.LittleEndian.AppendUint64(s.unwritten, first)
	s.size = segmentHead
	return s, nil
}

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

// append adds a record to the bytes to write and indexes it under its topic.
func (s *segment) append(position uint64, topic uint32, e *protocol.Event) {
	before := len(s.unwritten)
	s.unwritten = appendRecord(s.unwritten, position, e)
	s.index(topic, uint32(s.size), e.Time)
	s.size += int64(len(s.unwritten) - before)
}

func (s *segment) index(topic, at uint32, time int64) {
	s.topics[topic] = append(s.topics[topic], uint32(len(s.at)))
	s.at = append(s.at, at)
	s.owner = append(s.owner, topic)
	s.times = append(s.times, time)
}

func (s *segment) last() uint64 { return s.first + uint64(len(s.at)) - 1 }

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

func (s *segment) span(position uint64) span {
	i := int(position - s.first)
	to := s.size
	if i+1 < len(s.at) {
		to = int64(s.at[i+1])
	}
	return span{s, position, int64(s.at[i]), to}
}

// read gives the event of a span that has been written, checked.
func (w span) read() (*Record, error) {
	b := make([]byte, w.to-w.from)
	if _, err := w.segment.file.ReadAt(b, w.from); err != nil {
		return nil, fmt.Errorf("read %s at %d: %w", w.segment.path, w.from, err)
	}
	r, n, err := decodeRecord(b)
	if err == nil && (n != len(b) || r.Position != w.position) {
		err = ErrDamaged
	}
	if err != nil {
		return nil, fmt.Errorf("%s at %d: %w", w.segment.path, w.from, err)
	}
	return r, nil
}

// decodeRecord reads the record at the front of b and says how long it is.
func decodeRecord(b []byte) (*Record, int, error) {
	if len(b) < recordHead {
		return nil, 0, ErrDamaged
	}
	n := int(binary.LittleEndian.Uint32(b))
	if n > len(b)-recordHead {
		return nil, 0, ErrDamaged
	}
	body := b[recordHead : recordHead+n]
	if crc32.Checksum(body, crcTable) != binary.LittleEndian.Uint32(b[4:]) {
		return nil, 0, ErrDamaged
	}
	r := protocol.NewBinaryReader(body)
	record := &Record{Position: r.Uvarint(), Event: r.ReadEvent()}
	if r.Err() != nil || len(r.Rest()) > 0 {
		return nil, 0, ErrDamaged
	}
	return record, recordHead + n, nil
}

// after gives the topic's first record behind a position, by position - first.
func (s *segment) after(topic uint32, position uint64) []uint32 {
	list := s.topics[topic]
	if position < s.first {
		return list
	}
	rel := position - s.first
	return list[sort.Search(len(list), func(i int) bool { return uint64(list[i]) > rel }):]
}

// openSegment reads a segment of size bytes back in and indexes it. number
// gives the topics' numbers.
func openSegment(path string, size int64, number func(topic string) uint32) (*segment, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(file, b); err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", path, err), file.Close())
	}
	s := &segment{path: path, file: file, topics: map[uint32][]uint32{}}
	if err := s.scan(b, number); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), file.Close())
	}
	// What follows was written after the snapshot; the log gives it again.
	if err := file.Truncate(size); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return s, nil
}

func (s *segment) scan(b []byte, number func(topic string) uint32) error {
	if len(b) < segmentHead || string(b[:8]) != segmentMagic {
		return fmt.Errorf("no segment: %w", ErrDamaged)
	}
	if b[8] != segmentVersion {
		return fmt.Errorf("format %d, this pushd knows %d", b[8], segmentVersion)
	}
	s.first = binary.LittleEndian.Uint64(b[9:])
	s.size = segmentHead
	for s.size < int64(len(b)) {
		r, n, err := decodeRecord(b[s.size:])
		if err != nil {
			return fmt.Errorf("at %d: %w", s.size, err)
		}
		if r.Position != s.first+uint64(len(s.at)) {
			return fmt.Errorf("at %d: position %d: %w", s.size, r.Position, ErrDamaged)
		}
		s.index(number(r.Topic), uint32(s.size), r.Time)
		s.size += int64(n)
	}
	return nil
}

func (s *segment) close() { _ = s.file.Close() }
