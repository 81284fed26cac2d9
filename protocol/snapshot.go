package protocol

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// A snapshot file keeps a cluster's events and policies outside it:
//
//	"pushdsnp" | version u32, little-endian | frames
//	frame: length u32 | CRC-32C u32 | kind byte and body, both under the checksum
//	kind 1: head, JSON   2: event, as AppendEvent   3: end, JSON
//
// It begins with the head and ends with the end, so that a file that was cut
// short is known for it. Events of a topic stand in their order.
const (
	snapshotMagic   = "pushdsnp"
	snapshotVersion = 1

	snapshotHead  byte = 1
	snapshotEvent byte = 2
	snapshotEnd   byte = 3

	snapshotPreamble = len(snapshotMagic) + 4
	snapshotFrame    = 8
	// MaxSnapshotFrame is the most that one frame takes, in bytes.
	MaxSnapshotFrame = 8 << 20
)

// ErrSnapshot says that bytes are not a whole, unchanged snapshot file.
var ErrSnapshot = errors.New("damaged snapshot")

// SnapshotHead says what a snapshot is of.
type SnapshotHead struct {
	ClusterID  string    `json:"cluster_id"`
	Taken      time.Time `json:"taken"` // every event that was acknowledged before is in it
	Partitions int       `json:"partitions"`
	Policies   []Policy  `json:"policies"`
}

// SnapshotEnd closes a snapshot.
type SnapshotEnd struct {
	Events uint64 `json:"events"`
}

// SnapshotPart is one frame of a snapshot: one of its fields is set.
type SnapshotPart struct {
	Head  *SnapshotHead
	Event *Event
	End   *SnapshotEnd
}

// RestoreResult answers a part of a snapshot that was restored.
type RestoreResult struct {
	Restored int `json:"restored"` // events stored by this request
	Known    int `json:"known"`    // events that an earlier one had stored
}

// AppendSnapshotHead begins a snapshot file.
func AppendSnapshotHead(dst []byte, h *SnapshotHead) ([]byte, error) {
	body, err := json.Marshal(h)
	if err != nil {
		return dst, fmt.Errorf("snapshot head: %w", err)
	}
	dst = binary.LittleEndian.AppendUint32(append(dst, snapshotMagic...), snapshotVersion)
	return closeFrame(append(openFrame(dst, snapshotHead), body...), len(dst)), nil
}

// AppendSnapshotEvent adds an event to a snapshot.
func AppendSnapshotEvent(dst []byte, e *Event) []byte {
	return closeFrame(AppendEvent(openFrame(dst, snapshotEvent), e), len(dst))
}

// AppendSnapshotEnd ends a snapshot of so many events.
func AppendSnapshotEnd(dst []byte, events uint64) []byte {
	body := fmt.Appendf(nil, `{"events":%d}`, events)
	return closeFrame(append(openFrame(dst, snapshotEnd), body...), len(dst))
}

func openFrame(dst []byte, kind byte) []byte {
	return append(append(dst, make([]byte, snapshotFrame)...), kind)
}

// closeFrame fills in length and checksum of the frame that begins at a place.
func closeFrame(dst []byte, at int) []byte {
	body := dst[at+snapshotFrame:]
	binary.LittleEndian.PutUint32(dst[at:], uint32(len(body)))
	binary.LittleEndian.PutUint32(dst[at+4:], crc32.Checksum(body, castagnoli))
	return dst
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// SnapshotPreamble takes what a snapshot file begins with off its front. n is
// how many bytes that is.
func SnapshotPreamble(b []byte) (n int, err error) {
	if len(b) < snapshotPreamble || string(b[:len(snapshotMagic)]) != snapshotMagic {
		return 0, fmt.Errorf("%w: this is no snapshot file", ErrSnapshot)
	}
	if v := binary.LittleEndian.Uint32(b[len(snapshotMagic):]); v != snapshotVersion {
		return 0, fmt.Errorf("the snapshot has format %d, this pushd reads format %d; use the version that wrote it", v, snapshotVersion)
	}
	return snapshotPreamble, nil
}

// NextSnapshotPart reads the frame at the front of b and says how long it is:
// 0 if b ends within it. The event's data is a part of b.
func NextSnapshotPart(b []byte) (p SnapshotPart, n int, err error) {
	if len(b) < snapshotFrame {
		return p, 0, nil
	}
	size := int(binary.LittleEndian.Uint32(b))
	if size == 0 || size > MaxSnapshotFrame {
		return p, 0, fmt.Errorf("%w: a frame of %d bytes", ErrSnapshot, size)
	}
	if len(b) < snapshotFrame+size {
		return p, 0, nil
	}
	body := b[snapshotFrame : snapshotFrame+size]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(b[4:]) {
		return p, 0, fmt.Errorf("%w: a frame fails its checksum", ErrSnapshot)
	}
	return p, snapshotFrame + size, p.decode(body[0], body[1:])
}

func (p *SnapshotPart) decode(kind byte, body []byte) error {
	var err error
	switch kind {
	case snapshotHead:
		err = json.Unmarshal(body, &p.Head)
	case snapshotEnd:
		err = json.Unmarshal(body, &p.End)
	case snapshotEvent:
		r := NewBinaryReader(body)
		e := r.ReadEvent()
		if p.Event = &e; len(r.Rest()) > 0 {
			err = ErrBinary
		} else {
			err = r.Err()
		}
	default:
		return fmt.Errorf("%w: a frame of kind %d", ErrSnapshot, kind)
	}
	if err != nil || p.Head == nil && p.Event == nil && p.End == nil {
		return fmt.Errorf("%w: a frame of kind %d: %v", ErrSnapshot, kind, err)
	}
	return nil
}
