package cluster

import (
	"encoding/binary"
	"errors"
	"time"
)

// goneNode is a node that died or left, and when.
type goneNode struct {
	node Node
	at   time.Time
}

const goneVersion = 1

var errGone = errors.New("malformed list of nodes")

// appendGone writes a version and, per node, how many seconds ago it went, then
// id, gossip address and metadata, each with its length before it. Ages, not
// times: clocks differ.
func appendGone(dst []byte, gone []goneNode, now time.Time) []byte {
	dst = append(dst, goneVersion)
	for _, g := range gone {
		if len(g.node.ID) > maxIDBytes || len(g.node.GossipAddr) > maxAddrBytes || len(appendMeta(nil, &g.node)) > maxMetaBytes {
			continue // one that no reader would take must not spoil the rest
		}
		dst = binary.AppendUvarint(dst, uint64(max(0, now.Sub(g.at)/time.Second)))
		for _, part := range [][]byte{[]byte(g.node.ID), []byte(g.node.GossipAddr), appendMeta(nil, &g.node)} {
			dst = append(binary.AppendUvarint(dst, uint64(len(part))), part...)
		}
	}
	return dst
}

// decodeGone reads the list. What is older than it would be kept is left out.
func decodeGone(b []byte, now time.Time) (gone []goneNode, err error) {
	if len(b) == 0 || b[0] != goneVersion {
		return nil, errGone
	}
	for b = b[1:]; len(b) > 0; {
		age, n := binary.Uvarint(b)
		if n <= 0 || len(gone) == maxKnown {
			return nil, errGone
		}
		b = b[n:]
		var parts [3][]byte
		for i, most := range []int{maxIDBytes, maxAddrBytes, maxMetaBytes} {
			size, n := binary.Uvarint(b)
			if n <= 0 || size > uint64(most) || uint64(len(b)-n) < size {
				return nil, errGone
			}
			parts[i], b = b[n:n+int(size)], b[n+int(size):]
		}
		node, err := decodeMeta(parts[2])
		if err != nil {
			return nil, err
		}
		if node.State != StateLeft {
			node.State = StateDead
		}
		if node.ID, node.GossipAddr = string(parts[0]), string(parts[1]); age < uint64(keepDead/time.Second) {
			gone = append(gone, goneNode{node, now.Add(-time.Duration(age) * time.Second)})
		}
	}
	return gone, nil
}
