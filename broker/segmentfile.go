package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// openSegment opens a segment of size bytes by its index file, or by reading it
// where there is none. slotOf gives the slot of a topic.
func openSegment(path string, size int64, slotOf func(topic string) uint32) (*segment, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	s := &segment{path: path, file: file, size: size}
	if info, failed := file.Stat(); failed != nil || info.Size() < size {
		err = errors.Join(fmt.Errorf("it has less than %d bytes: %w", size, ErrDamaged), failed)
	} else if err = s.openIndex(); err != nil {
		err = s.scan(slotOf)
	}
	if err == nil {
		// What follows was written after the snapshot; the log gives it again.
		err = file.Truncate(size)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), file.Close())
	}
	return s, nil
}

// openIndex takes the index from its file.
func (s *segment) openIndex() error {
	b, release, err := mapFile(indexPath(s.path))
	if err != nil {
		return err
	}
	x, info, err := parseIndex(b)
	if err == nil && info.size != s.size {
		err = errIndex // of the segment at another time
	}
	if err != nil {
		release()
		return err
	}
	s.first, s.final, s.sum, s.agreed = info.first, info.final, info.sum, true
	s.index, s.release = x, release
	return nil
}

// scan reads the segment and indexes it.
func (s *segment) scan(slotOf func(string) uint32) error {
	b := make([]byte, s.size)
	if _, err := io.ReadFull(io.NewSectionReader(s.file, 0, s.size), b); err != nil {
		return fmt.Errorf("it has less than %d bytes: %w", s.size, errors.Join(err, ErrDamaged))
	}
	flags, err := s.readHead(b)
	if err != nil {
		return err
	}
	s.index, s.final = &index{}, s.first-1
	s.sum = crc32.Checksum(b[:segmentHead], crcTable)
	for at := int64(segmentHead); at < s.size; {
		r, n, err := decodeRecord(b[at:])
		if err != nil {
			return fmt.Errorf("at %d: %w", at, err)
		}
		if r.Position <= s.final || flags&compacted == 0 && r.Position != s.final+1 {
			return fmt.Errorf("at %d: position %d behind %d: %w", at, r.Position, s.final, ErrDamaged)
		}
		if s.final = r.Position; flags&compacted != 0 {
			s.place = binary.LittleEndian.AppendUint32(s.place, uint32(r.Position-s.first))
		}
		s.add(slotOf(r.Topic), uint32(at), r.Time)
		s.sum = crc32.Update(s.sum, crcTable, b[at:at+recordHead])
		at += int64(n)
	}
	if flags&compacted != 0 {
		s.sum = 0
	}
	return nil
}

func (s *segment) readHead(b []byte) (flags byte, err error) {
	if len(b) < segmentHead || string(b[:8]) != segmentMagic {
		return 0, fmt.Errorf("no segment: %w", ErrDamaged)
	}
	if b[8] != segmentVersion {
		return 0, fmt.Errorf("it has format %d, this pushd reads format %d; start it with the version that wrote it", b[8], segmentVersion)
	}
	if crc32.Checksum(b[:segmentHead-4], crcTable) != binary.LittleEndian.Uint32(b[segmentHead-4:]) {
		return 0, fmt.Errorf("its head: %w", ErrDamaged)
	}
	s.first = binary.LittleEndian.Uint64(b[10:])
	return b[9], nil
}

// sealImage makes the index file's bytes of a full segment. names are those of
// the topics in it.
func (s *segment) sealImage(names map[uint32]string) []byte {
	return s.seal(sealedInfo{first: s.first, final: s.final, size: s.size, sum: s.sum}, names)
}

// imageSize is how long the index file of a sealed segment is.
func (s *segment) imageSize() int64 {
	n := indexHead + len(s.times) + 3*len(s.at) + len(s.place) + len(s.dir)
	return int64(n)
}
