package raftstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"
)

// Options configure a [Store].
type Options struct {
	Dir    string // wal/ and raft/ are made below it
	NodeID string // UUID of this node: Raft's server id and address at once, so that its IP may change

	// Listener yields peer connections that are authenticated already. The store closes it.
	Listener net.Listener
	// Dial connects to a node. A refused connection must keep syscall.ECONNREFUSED in its error chain: it is how a
	// dead process is told from a slow one.
	Dial func(ctx context.Context, nodeID string) (net.Conn, error)

	Log              *slog.Logger  // nil discards
	HeartbeatTimeout time.Duration // a follower without its leader for so long stands for election; 0 means 500 ms
	ElectionTimeout  time.Duration // 0 means HeartbeatTimeout
	CommitTimeout    time.Duration // longest silence of a leader's append stream; 0 means 500 ms
	SegmentBytes     int64         // size of a log segment; 0 means 16 MiB
	SnapshotBytes    int64         // log of a group after which it is snapshotted; 0 means 32 MiB
	TransferRate     int64         // bytes per second of all snapshots that this node sends; 0 means 64 MiB
	MinFree          int64         // bytes free on the disk below which no events are taken; 0 means a tenth of it, at most 2 GiB

	// Rebuild decides about replicas whose stored data is damaged. No error has them begin anew, empty and under a new id, for
	// their leaders to fill; what is damaged is kept in Dir/quarantine. An error refuses, and is returned by Open or
	// OpenGroup: right for a node that has the only replica. Without a Rebuild all is refused.
	Rebuild func(damage error) error

	// Fatal is called once, when the disk failed or gave back bytes that fail their check: the node must stop.
	// nil panics.
	Fatal func(error)
	FS    FS // nil means the operating system's

	looks bool // what is there is left as it is, damage, too
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.HeartbeatTimeout = cmpDuration(o.HeartbeatTimeout, defaultHeartbeatTimeout)
	o.ElectionTimeout = cmpDuration(o.ElectionTimeout, max(o.HeartbeatTimeout, defaultElectionTimeout))
	o.CommitTimeout = cmpDuration(o.CommitTimeout, defaultCommitTimeout)
	if o.SegmentBytes == 0 {
		o.SegmentBytes = defaultSegmentBytes
	}
	if o.TransferRate == 0 {
		o.TransferRate = transferRate
	}
	if o.SnapshotBytes == 0 {
		o.SnapshotBytes = snapshotBytes
	}
	if o.Fatal == nil {
		o.Fatal = func(err error) { panic(err) }
	}
	if o.FS == nil {
		o.FS = osFS{}
	}
	return o
}

func cmpDuration(d, zero time.Duration) time.Duration {
	if d == 0 {
		return zero
	}
	return d
}

func (o Options) check() error {
	switch {
	case o.Dir == "":
		return errors.New("raftstore: Options.Dir is empty")
	case o.NodeID == "" || len(o.NodeID) > maxNodeIDBytes:
		return fmt.Errorf("raftstore: Options.NodeID has %d bytes, want 1 to %d", len(o.NodeID), maxNodeIDBytes)
	case strings.Contains(o.NodeID, "."):
		return fmt.Errorf("raftstore: Options.NodeID %q has a dot, which stands before a replica's incarnation", o.NodeID)
	case o.Listener == nil || o.Dial == nil:
		return errors.New("raftstore: Options.Listener and Options.Dial are needed")
	case o.SegmentBytes < minSegmentBytes || o.SegmentBytes > maxSegmentBytes:
		return fmt.Errorf("raftstore: Options.SegmentBytes is %d, want %d to %d", o.SegmentBytes, minSegmentBytes, maxSegmentBytes)
	case o.TransferRate < 0:
		return fmt.Errorf("raftstore: Options.TransferRate is %d, want 0 or more", o.TransferRate)
	case o.MinFree < 0:
		return fmt.Errorf("raftstore: Options.MinFree is %d, want 0 or more", o.MinFree)
	case o.ElectionTimeout < o.HeartbeatTimeout:
		return fmt.Errorf("raftstore: Options.ElectionTimeout %v is below HeartbeatTimeout %v", o.ElectionTimeout, o.HeartbeatTimeout)
	}
	return nil
}
