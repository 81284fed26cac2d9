package raftstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/hashicorp/raft"
)

// Bytes of the write-ahead log. Everything is little endian. A segment is a header and frames; a frame is what one
// sync made durable; its payload is records.
//
//	segment  magic "PUSHDWAL" | version u32 | 0 u32 | number u64 | salt u64 | crc u32 | 0 u32
//	frame    magic u32 | payload bytes u32 | sequence u64 | crc u32 (salt, length, sequence, payload) | 0 u32 | payload, padded to 8
//	record   crc u32 (all that follows) | body bytes u32 | kind u8 | 0 u8 | group u16 | body
//
// The salt is random for each use of a segment file, so what an earlier use left behind never passes, and nobody can
// forge a frame inside an entry.
const (
	formatVersion     = 2
	segmentMagic      = "PUSHDWAL"
	segmentHeaderSize = 40
	frameMagic        = 0x4d524650 // "PFRM"
	frameHeaderSize   = 24
	frameAlign        = 8
	recordHeaderSize  = 12
	entryHeaderSize   = 21 // type u8 | index u64 | term u64 | extension bytes u32
)

// recordKind says what a record does to its group.
type recordKind uint8

const (
	recordEntry   recordKind = 1 // append an entry; at or below the last index it drops what follows
	recordCopy    recordKind = 2 // an entry that the group holds already, written again further on
	recordSuffix  recordKind = 3 // index u64: entries from here on are gone
	recordPrefix  recordKind = 4 // index u64: entries below are gone
	recordKeyVal  recordKind = 5 // key bytes u8 | key | value
	recordState   recordKind = 6 // first u64 | entries u64 | then key bytes u8, key, value bytes u32, value, ...
	recordDropped recordKind = 7 // the group is gone
	recordBefore  recordKind = 8 // group u16, ...: whose records the frame before has. Of no group, as the next
	recordSettled recordKind = 9 // from u64 | to u64: the groups that lost records with these frames were begun anew
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)

	errTorn = errors.New("bytes fail their check") // no valid frame here: end of the log, torn, or rot
)

type segmentHeader struct {
	number uint64
	salt   uint64
}

func appendSegmentHeader(dst []byte, h segmentHeader) []byte {
	start := len(dst)
	dst = append(dst, segmentMagic...)
	dst = binary.LittleEndian.AppendUint32(dst, formatVersion)
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	dst = binary.LittleEndian.AppendUint64(dst, h.number)
	dst = binary.LittleEndian.AppendUint64(dst, h.salt)
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
	return binary.LittleEndian.AppendUint32(dst, 0)
}

func parseSegmentHeader(b []byte) (segmentHeader, error) {
	if len(b) < segmentHeaderSize || !bytes.Equal(b[:8], []byte(segmentMagic)) {
		return segmentHeader{}, fmt.Errorf("%w: not a log segment", ErrDamaged)
	}
	if crc32.Checksum(b[:32], castagnoli) != binary.LittleEndian.Uint32(b[32:]) {
		return segmentHeader{}, fmt.Errorf("%w: segment header fails its check", ErrDamaged)
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != formatVersion {
		return segmentHeader{}, fmt.Errorf("%w: log segment has version %d, this pushd reads version %d", ErrVersion, v, formatVersion)
	}
	return segmentHeader{number: binary.LittleEndian.Uint64(b[16:]), salt: binary.LittleEndian.Uint64(b[24:])}, nil
}

func frameSize(payload int) int64 {
	n := int64(frameHeaderSize + payload)
	return (n + frameAlign - 1) &^ (frameAlign - 1)
}

func frameCRC(salt uint64, header, payload []byte) uint32 {
	var s [8]byte
	binary.LittleEndian.PutUint64(s[:], salt)
	c := crc32.Update(0, castagnoli, s[:])
	c = crc32.Update(c, castagnoli, header[4:16])
	return crc32.Update(c, castagnoli, payload)
}

// sealFrame fills in the header of a frame whose payload stands behind frameHeaderSize free bytes, and pads it.
func sealFrame(buf []byte, salt, sequence uint64) []byte {
	payload := buf[frameHeaderSize:]
	binary.LittleEndian.PutUint32(buf, frameMagic)
	binary.LittleEndian.PutUint32(buf[4:], uint32(len(payload)))
	binary.LittleEndian.PutUint64(buf[8:], sequence)
	binary.LittleEndian.PutUint32(buf[16:], frameCRC(salt, buf[:frameHeaderSize], payload))
	binary.LittleEndian.PutUint32(buf[20:], 0)
	for len(buf)%frameAlign != 0 {
		buf = append(buf, 0)
	}
	return buf
}

// parseFrame returns the sequence and payload of the frame at the start of b.
func parseFrame(b []byte, salt uint64) (sequence uint64, payload []byte, err error) {
	if len(b) < frameHeaderSize || binary.LittleEndian.Uint32(b) != frameMagic {
		return 0, nil, errTorn
	}
	n := int64(binary.LittleEndian.Uint32(b[4:]))
	if n > int64(len(b)-frameHeaderSize) {
		return 0, nil, errTorn
	}
	payload = b[frameHeaderSize : frameHeaderSize+n]
	if frameCRC(salt, b[:frameHeaderSize], payload) != binary.LittleEndian.Uint32(b[16:]) {
		return 0, nil, errTorn
	}
	return binary.LittleEndian.Uint64(b[8:]), payload, nil
}

type record struct {
	kind  recordKind
	group uint16
	body  []byte
	size  int // with its header
}

// appendRecord appends a record whose body is made of parts.
func appendRecord(dst []byte, kind recordKind, group uint16, parts ...[]byte) []byte {
	start := len(dst)
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(n))
	dst = append(dst, byte(kind), 0)
	dst = binary.LittleEndian.AppendUint16(dst, group)
	for _, p := range parts {
		dst = append(dst, p...)
	}
	binary.LittleEndian.PutUint32(dst[start:], crc32.Checksum(dst[start+4:], castagnoli))
	return dst
}

func parseRecord(b []byte) (record, error) {
	if len(b) < recordHeaderSize {
		return record{}, fmt.Errorf("%w: record is cut short", ErrDamaged)
	}
	n := int64(binary.LittleEndian.Uint32(b[4:]))
	if n > int64(len(b)-recordHeaderSize) {
		return record{}, fmt.Errorf("%w: record is cut short", ErrDamaged)
	}
	end := recordHeaderSize + int(n)
	if crc32.Checksum(b[4:end], castagnoli) != binary.LittleEndian.Uint32(b) {
		return record{}, fmt.Errorf("%w: record fails its check", ErrDamaged)
	}
	return record{kind: recordKind(b[8]), group: binary.LittleEndian.Uint16(b[10:]), body: b[recordHeaderSize:end], size: end}, nil
}

func appendEntryRecord(dst []byte, kind recordKind, group uint16, l *raft.Log) []byte {
	var h [entryHeaderSize]byte
	h[0] = byte(l.Type)
	binary.LittleEndian.PutUint64(h[1:], l.Index)
	binary.LittleEndian.PutUint64(h[9:], l.Term)
	binary.LittleEndian.PutUint32(h[17:], uint32(len(l.Extensions)))
	return appendRecord(dst, kind, group, h[:], l.Extensions, l.Data)
}

// parseEntry reads the body of an entry record. Data and Extensions point into it.
func parseEntry(body []byte, l *raft.Log) error {
	if len(body) < entryHeaderSize {
		return fmt.Errorf("%w: entry is cut short", ErrDamaged)
	}
	n := int64(binary.LittleEndian.Uint32(body[17:]))
	if n > int64(len(body)-entryHeaderSize) {
		return fmt.Errorf("%w: entry is cut short", ErrDamaged)
	}
	*l = raft.Log{
		Type:  raft.LogType(body[0]),
		Index: binary.LittleEndian.Uint64(body[1:]),
		Term:  binary.LittleEndian.Uint64(body[9:]),
		Data:  body[entryHeaderSize+n:],
	}
	if n > 0 {
		l.Extensions = body[entryHeaderSize : entryHeaderSize+n]
	}
	return nil
}

func appendIndexRecord(dst []byte, kind recordKind, group uint16, indexes ...uint64) []byte {
	var b [16]byte
	for i, n := range indexes {
		binary.LittleEndian.PutUint64(b[8*i:], n)
	}
	return appendRecord(dst, kind, group, b[:8*len(indexes)])
}

func parseIndex(body []byte) (uint64, error) {
	if len(body) != 8 {
		return 0, fmt.Errorf("%w: record has %d bytes, want 8", ErrDamaged, len(body))
	}
	return binary.LittleEndian.Uint64(body), nil
}

// appendGroups appends a list of groups as the body of a record.
func appendGroups(dst []byte, groups []uint16) []byte {
	for _, id := range groups {
		dst = binary.LittleEndian.AppendUint16(dst, id)
	}
	return dst
}

func parseGroups(body []byte) ([]uint16, error) {
	if len(body)%2 != 0 {
		return nil, fmt.Errorf("%w: list of groups has %d bytes", ErrDamaged, len(body))
	}
	groups := make([]uint16, len(body)/2)
	for i := range groups {
		groups[i] = binary.LittleEndian.Uint16(body[2*i:])
	}
	return groups, nil
}

// sortedGroups returns each group once.
func sortedGroups(groups []uint16) []uint16 {
	slices.Sort(groups)
	return slices.Compact(groups)
}

func appendKeyValRecord(dst []byte, group uint16, key string, val []byte) []byte {
	return appendRecord(dst, recordKeyVal, group, []byte{byte(len(key))}, []byte(key), val)
}

func parseKeyVal(body []byte) (key string, val []byte, err error) {
	if len(body) < 1 || len(body) < 1+int(body[0]) {
		return "", nil, fmt.Errorf("%w: key is cut short", ErrDamaged)
	}
	n := 1 + int(body[0])
	return string(body[1:n]), bytes.Clone(body[n:]), nil
}

// groupState is what a segment begins with for each group, so that the segments before it may go.
type groupState struct {
	first, entries uint64
	kv             map[string][]byte
}

func appendStateRecord(dst []byte, group uint16, s groupState, keys []string) []byte {
	var body []byte
	body = binary.LittleEndian.AppendUint64(body, s.first)
	body = binary.LittleEndian.AppendUint64(body, s.entries)
	for _, k := range keys {
		body = append(body, byte(len(k)))
		body = append(body, k...)
		body = binary.LittleEndian.AppendUint32(body, uint32(len(s.kv[k])))
		body = append(body, s.kv[k]...)
	}
	return appendRecord(dst, recordState, group, body)
}

func parseState(b []byte) (groupState, error) {
	short := fmt.Errorf("%w: group state is cut short", ErrDamaged)
	if len(b) < 16 {
		return groupState{}, short
	}
	s := groupState{
		first:   binary.LittleEndian.Uint64(b),
		entries: binary.LittleEndian.Uint64(b[8:]),
		kv:      map[string][]byte{},
	}
	if s.entries > maxGroupEntries {
		return groupState{}, fmt.Errorf("%w: group state claims %d entries, at most %d are possible", ErrDamaged, s.entries, maxGroupEntries)
	}
	for b = b[16:]; len(b) > 0; {
		n := 1 + int(b[0])
		if len(b) < n+4 {
			return groupState{}, short
		}
		key := string(b[1:n])
		size := int64(binary.LittleEndian.Uint32(b[n:]))
		if b = b[n+4:]; size > int64(len(b)) {
			return groupState{}, short
		}
		s.kv[key] = bytes.Clone(b[:size])
		b = b[size:]
	}
	return s, nil
}
