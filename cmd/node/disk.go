package node

import (
	"fmt"

	"github.com/pushd/pushd/protocol"
	"github.com/pushd/pushd/raftstore"
)

// ErrDisk says that the node stopped because its disk failed.
var ErrDisk = raftstore.ErrDisk

// diskFailed ends the node when a write or sync of its log failed.
func (n *Node) diskFailed(err error) {
	n.fail(fmt.Errorf("%w\nThe node stopped at once, since this disk no longer keeps what it is given; what was acknowledged is on the other nodes, too. "+
		"Look at the kernel's log (dmesg). If the disk is well again, start the node again; "+
		"if not, give the node a new --data-dir on another one, and remove the old node with 'pushd cluster rm'", err))
}

// segmentFailed ends the node when events could not be written behind the log.
func (n *Node) segmentFailed(err error) { n.diskFailed(fmt.Errorf("%w: %w", ErrDisk, err)) }

// Writable is nil unless this node's disk has no room for new events.
func (r *replica) Writable() error {
	if err := r.store.Writable(); err != nil {
		return protocol.DiskFull.Errorf("%v on the node that leads the topic's partition, so nothing was stored; free some, or let topics keep less (PUT /v1/policies/{pattern}). Reading goes on, and publishing when there is room", err)
	}
	return nil
}
