package raftstore

import "errors"

// Errors that callers compare.
var (
	// ErrNotLeader says that this replica does not lead the group and that the proposal surely was not made.
	ErrNotLeader = errors.New("this replica does not lead the group")
	// ErrOutcomeUnknown says that the proposal was made and may or may not be applied some time.
	ErrOutcomeUnknown = errors.New("the entry was proposed but its outcome is unknown")
	// ErrTooLarge says that an entry has more than MaxEntryBytes.
	ErrTooLarge = errors.New("entry is too large")
	// ErrClosed says that the store or the group was closed.
	ErrClosed = errors.New("raftstore is closed")
	// ErrDamaged says that synced bytes on this disk no longer pass their check. The replica must not vote.
	ErrDamaged = errors.New("stored data is damaged")
	// ErrVersion says that the data was written by a pushd of another format, and is left as it is.
	ErrVersion = errors.New("data format is another pushd's")
	// ErrNoGroup says that the group is not open here.
	ErrNoGroup = errors.New("no such group on this node")
	// ErrGroupOpen says that the group is open already.
	ErrGroupOpen = errors.New("group is open already")
	// ErrDiskFull says that the disk has too little room for new commands. It goes away by itself with room.
	ErrDiskFull = errors.New("the disk is nearly full")
	// ErrDisk says that a write or sync of the log failed; the node must stop.
	ErrDisk = errors.New("writing the log to disk failed")
)
