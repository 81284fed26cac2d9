package broker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// An index file holds the index of a sealed segment, so that a start need not
// read the segment. Little-endian:
//
//	"pushdidx" | version u32 | flags u32 (1: records are missing between) | first, final position u64 | segment bytes u64
//	| records u32 | topics u32 | sum of the segment as it was first sealed u32 | CRC-32C of all that is not this field u32
//	| times i64… | file offsets u32… | owners u32… | postings u32… | places u32… (flag 1) | per topic: id 16 bytes, hash u64
//
// It can be made anew from the segment, so that a damaged one costs time only.
const (
	indexMagic   = "pushdidx"
	indexVersion = 1
	indexHead    = 8 + 4 + 4 + 3*8 + 4*4
	indexCRC     = indexHead - 4
	sparseIndex  = 1
)

var errIndex = errors.New("not the segment's index")

// sealedInfo is what an index file says of its segment beside the index.
type sealedInfo struct {
	first, final uint64
	size         int64
	sum          uint32 // CRC-32C of the heads of segment and records as first sealed; 0: not known
}

// seal makes the sealed form of an index, as a file's bytes. names gives the
// name of a slot's topic, "" for one that has been forgotten.
func (x *index) seal(info sealedInfo, names map[uint32]string) []byte {
	dir, places := directory(names)
	owner := make([]byte, 0, len(x.owner))
	for i := range x.len() {
		owner = binary.LittleEndian.AppendUint32(owner, places[u32(x.owner, i)])
	}
	b := append(make([]byte, 0, indexHead+len(x.times)+4*len(x.at)+len(x.place)+len(dir)), indexMagic...)
	b = binary.LittleEndian.AppendUint32(b, indexVersion)
	flags := uint32(0)
	if x.place != nil {
		flags = sparseIndex
	}
	b = binary.LittleEndian.AppendUint32(b, flags)
	for _, v := range []uint64{info.first, info.final, uint64(info.size)} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	for _, v := range []uint32{uint32(x.len()), uint32(len(dir) / dirBytes), info.sum, 0} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	for _, column := range [][]byte{x.times, x.at, owner, sortByOwner(owner, 0, x.len()), x.place, dir} {
		b = append(b, column...)
	}
	binary.LittleEndian.PutUint32(b[indexCRC:], indexSum(b))
	return b
}

// directory lists topics by id, and says where each slot's came.
func directory(names map[uint32]string) (dir []byte, places map[uint32]uint32) {
	type entry struct {
		id   topicID
		hash uint64
		slot uint32
	}
	entries := make([]entry, 0, len(names))
	for slot, name := range names {
		e := entry{idOf(name), xxhash.Sum64String(name), slot}
		if name == "" { // forgotten: nobody asks for it
			binary.LittleEndian.PutUint32(e.id[:], slot)
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b entry) int { return bytes.Compare(a.id[:], b.id[:]) })
	places = make(map[uint32]uint32, len(entries))
	for i, e := range entries {
		places[e.slot] = uint32(i)
		dir = binary.LittleEndian.AppendUint64(append(dir, e.id[:]...), e.hash)
	}
	return dir, places
}

func indexSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:indexCRC], crcTable), crcTable, b[indexHead:])
}

// parseIndex makes an index of a file's bytes, which it keeps.
func parseIndex(b []byte) (*index, sealedInfo, error) {
	if len(b) < indexHead || string(b[:8]) != indexMagic || binary.LittleEndian.Uint32(b[8:]) != indexVersion {
		return nil, sealedInfo{}, errIndex
	}
	info := sealedInfo{
		first: binary.LittleEndian.Uint64(b[16:]), final: binary.LittleEndian.Uint64(b[24:]),
		size: int64(binary.LittleEndian.Uint64(b[32:])), sum: binary.LittleEndian.Uint32(b[48:]),
	}
	n, topics := int(binary.LittleEndian.Uint32(b[40:])), int(binary.LittleEndian.Uint32(b[44:]))
	sparse := binary.LittleEndian.Uint32(b[12:])&sparseIndex != 0
	want := indexHead + n*(8+4+4+4) + topics*dirBytes
	if sparse {
		want += n * 4
	}
	if len(b) != want || binary.LittleEndian.Uint32(b[indexCRC:]) != indexSum(b) {
		return nil, sealedInfo{}, errIndex
	}
	rest := b[indexHead:]
	cut := func(n int) (column []byte) {
		column, rest = rest[:n:n], rest[n:]
		return column
	}
	x := &index{times: cut(8 * n), at: cut(4 * n), owner: cut(4 * n), sorted: []postings{{0, n, cut(4 * n)}}}
	if sparse {
		x.place = cut(4 * n)
	}
	x.dir = cut(topics * dirBytes)
	return x, info, nil
}

// writeFile writes a file whole, to be synced by whoever needs it durable.
func writeFile(path string, b []byte) error {
	err := os.WriteFile(path+".tmp", b, 0o600)
	if err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err != nil {
		_ = os.Remove(path + ".tmp")
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
