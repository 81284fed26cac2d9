package raftstore

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// A replica that begins with nothing has a new incarnation, which is part of its Raft server id. What an earlier
// replica of the node voted or acknowledged is forgotten, so nobody may take the new one for it: requests name the
// incarnation that they mean, and a replica of another one refuses them.
//
// The replicas that start a group are incarnation 0. Others draw a number at random, because a counter would have to
// survive the very damage that makes a replica begin anew.
const keyIncarnation = "Incarnation"

func newIncarnation() uint32 {
	var b [4]byte
	for {
		_, _ = rand.Read(b[:]) // never fails
		if n := binary.LittleEndian.Uint32(b[:]); n != 0 {
			return n
		}
	}
}

// replicaID is a replica's Raft server id and address: the node, and the incarnation unless it is 0.
func replicaID(node string, incarnation uint32) string {
	if incarnation == 0 {
		return node
	}
	return fmt.Sprintf("%s.%08x", node, incarnation)
}

func splitReplicaID(id string) (node string, incarnation uint32) {
	node, hex, found := strings.Cut(id, ".")
	if !found {
		return id, 0
	}
	n, err := strconv.ParseUint(hex, 16, 32)
	if err != nil {
		return id, 0
	}
	return node, uint32(n)
}

// route says which replicas a peer frame goes between.
type route struct {
	group    uint16
	from, to uint32 // incarnations
}

// replacedError is the answer of a node whose replica has another incarnation than the one that was asked.
type replacedError struct {
	node        string
	incarnation uint32
}

func (e *replacedError) Error() string {
	return fmt.Sprintf("the replica on %s began anew as %s", e.node, replicaID(e.node, e.incarnation))
}
