package protocol

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"slices"
)

// A Cursor says how far one reader has come: everything up to its lanes'
// positions has been delivered for exactly the selectors it was issued for.
// On the wire it is opaque text, signed by the cluster's salt.
//
// Its size is bounded by the number of partitions and by [MaxMarks]: a reader
// of more selectors than that is remembered by one hash of the whole set.
type Cursor struct {
	Marks []Mark // one per selector, in ascending order of fingerprint; nil if Set is used
	Set   uint64 // hash of all fingerprints, for readers of more than MaxMarks selectors
	Lanes []Lane // in ascending order of partition, then position
}

// A Mark remembers one selector of the reader.
type Mark struct {
	Fingerprint uint64 // of the selector, 48 bits
	Offset      uint64 // last offset delivered of an exact topic, so that a gap can name its first lost event; 0: unknown
}

// A Lane is a place in one partition's log. A reader has one lane in each
// partition that its selectors touch; several while some of its selectors
// still catch up with the others.
type Lane struct {
	Partition uint16
	Position  uint64 // events of the partition up to and including this one are delivered
	Marks     uint32 // bit i: the lane holds for Marks[i]; 0: for all of them
	// Began and Since are where the partition ended when the reader began, and when that was, in nanoseconds since
	// 1970: what was gone by then is no gap for it, until it has come that far. 0: it has.
	Began, Since uint64
	Last         uint32 // of each topic's events up to Began, only so many are for the reader; 0: all
}

const (
	cursorVersion   = 1
	cursorBegan     = 2 // a version-1 cursor whose lanes have Began, Since and Last, too
	minCursorBytes  = 3 + saltBytes
	cursorSet       = 0xff // stands for the number of marks where Set is used
	fingerprintMask = 1<<48 - 1
)

// SetFingerprint is the hash that stands for a whole set of selectors, in any
// order, in [Cursor.Set].
func SetFingerprint(selectors []Selector) uint64 {
	all := make([]uint64, 0, len(selectors))
	for _, s := range selectors {
		all = append(all, s.Fingerprint())
	}
	slices.Sort(all)
	h := uint64(14695981039346656037)
	for _, f := range all {
		h = (h ^ f) * 1099511628211
		h ^= h >> 29
	}
	return h
}

// Append writes the cursor's text. salt stands for the cluster: the same bytes
// under another salt are not a cursor.
func (c *Cursor) Append(dst []byte, salt Salt) []byte {
	start := len(dst)
	version := c.version()
	b := append(dst, version)
	if c.Marks == nil {
		b = append(b, cursorSet)
		b = binary.LittleEndian.AppendUint64(b, c.Set)
	} else {
		b = append(b, byte(len(c.Marks)))
		for _, m := range c.Marks {
			b = append(b, byte(m.Fingerprint), byte(m.Fingerprint>>8), byte(m.Fingerprint>>16),
				byte(m.Fingerprint>>24), byte(m.Fingerprint>>32), byte(m.Fingerprint>>40))
			b = binary.AppendUvarint(b, m.Offset)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(c.Lanes)))
	for _, l := range c.Lanes {
		b = binary.AppendUvarint(b, uint64(l.Partition))
		b = binary.AppendUvarint(b, l.Position)
		b = binary.AppendUvarint(b, uint64(l.Marks))
		if version == cursorBegan {
			b = binary.AppendUvarint(binary.AppendUvarint(binary.AppendUvarint(b, l.Began), l.Since), uint64(l.Last))
		}
	}
	return encodeTail(salt.appendSignature(b, start), start)
}

// version is the shortest form that has everything.
func (c *Cursor) version() byte {
	for i := range c.Lanes {
		if c.Lanes[i].Began != 0 {
			return cursorBegan
		}
	}
	return cursorVersion
}

// encodeTail turns b[start:] into base64 in b itself: no room beside
// it has to be found, once per event and reader.
func encodeTail(b []byte, start int) []byte {
	raw := len(b) - start
	text := base64.RawURLEncoding.EncodedLen(raw)
	b = append(b, make([]byte, text)...)
	base64.RawURLEncoding.Encode(b[start+raw:], b[start:start+raw])
	copy(b[start:], b[start+raw:])
	return b[:start+text]
}

// Text is the cursor as clients see it.
func (c *Cursor) Text(salt Salt) string { return string(c.Append(nil, salt)) }

// ParseCursor reads a cursor's text. Whatever is not one that [Cursor.Append]
// made under the same salt is refused with [BadCursor].
func ParseCursor(text string, salt Salt) (Cursor, error) {
	if len(text) > MaxCursorText {
		return Cursor{}, BadCursor.Errorf("the cursor has %d characters, at most %d are possible", len(text), MaxCursorText)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < minCursorBytes {
		return Cursor{}, BadCursor.Errorf("%s is no cursor; give one that pushd sent, or earliest, latest, -N, @time or @duration", quote(text))
	}
	body := b[:len(b)-saltBytes]
	if !salt.signed(b) {
		return Cursor{}, BadCursor.Errorf("the cursor %s is damaged, or another cluster made it; start again with earliest, latest or a time", quote(text))
	}
	if body[0] != cursorVersion && body[0] != cursorBegan {
		return Cursor{}, BadCursor.Errorf("the cursor %s is of version %d, this node knows version %d", quote(text), body[0], cursorBegan)
	}
	c, ok := parseCursorBody(body[0], body[1:])
	if !ok {
		return Cursor{}, BadCursor.Errorf("the cursor %s is malformed", quote(text))
	}
	return c, nil
}

// CursorCovers says for each of a reader's selectors whether the cursor was
// issued for it, so that it goes on there with what is new to it. The signature
// is not checked: that is for [ParseCursor], which takes the salt, and refuses
// whatever is not ok here.
func CursorCovers(text string, selectors []Selector) (covered []bool, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if len(text) > MaxCursorText || err != nil || len(b) < minCursorBytes || b[0] != cursorVersion && b[0] != cursorBegan {
		return nil, false
	}
	c, ok := parseCursorBody(b[0], b[1:len(b)-saltBytes])
	if !ok {
		return nil, false
	}
	covered = make([]bool, len(selectors))
	whole := c.Marks == nil && c.Set == SetFingerprint(selectors)
	for i, s := range selectors {
		f := s.Fingerprint()
		covered[i] = whole || slices.ContainsFunc(c.Marks, func(m Mark) bool { return m.Fingerprint == f })
	}
	return covered, true
}

func parseCursorBody(version byte, b []byte) (c Cursor, ok bool) {
	n := b[0]
	b = b[1:]
	if n == cursorSet {
		if len(b) < 8 {
			return c, false
		}
		c.Set, b = binary.LittleEndian.Uint64(b), b[8:]
	} else if c.Marks, b, ok = parseMarks(b, int(n)); !ok {
		return c, false
	}
	c.Lanes, ok = parseLanes(version, b)
	return c, ok && c.version() == version
}

func parseMarks(b []byte, n int) (marks []Mark, rest []byte, ok bool) {
	if n > MaxMarks || len(b) < n*7 {
		return nil, nil, false
	}
	marks = make([]Mark, n)
	for i := range marks {
		if len(b) < 7 {
			return nil, nil, false
		}
		f := uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 | uint64(b[4])<<32 | uint64(b[5])<<40
		offset, k := binary.Uvarint(b[6:])
		if k <= 0 {
			return nil, nil, false
		}
		marks[i], b = Mark{f, offset}, b[6+k:]
	}
	return marks, b, true
}

func parseLanes(version byte, b []byte) ([]Lane, bool) {
	n, k := binary.Uvarint(b)
	if b = b[max(k, 0):]; k <= 0 || n > uint64(len(b)/3) {
		return nil, false
	}
	lanes := make([]Lane, n)
	for i := range lanes {
		var field [6]uint64
		for j := range field[:3+3*(version-cursorVersion)] {
			v, k := binary.Uvarint(b)
			if k <= 0 {
				return nil, false
			}
			field[j], b = v, b[k:]
		}
		if field[0] >= MaxPartitions || field[2] > 1<<32-1 || field[5] > 1<<32-1 || field[3] == 0 && field[4]+field[5] != 0 {
			return nil, false
		}
		lanes[i] = Lane{uint16(field[0]), field[1], uint32(field[2]), field[3], field[4], uint32(field[5])}
	}
	sorted := slices.IsSortedFunc(lanes, func(a, b Lane) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Position, b.Position))
	})
	return lanes, len(b) == 0 && sorted
}
