// Package raftstore runs many Raft groups on one directory and one peer listener.
//
// A [Store] belongs to a node, a [Group] is the node's replica of one replicated log, and a [StateMachine] is what
// the caller makes of the log's entries. Entries are opaque bytes: nothing here knows of topics.
//
// # Promises
//
//   - [Group.Propose] returns without an error only after the entry is synced to disk on a quorum and applied here.
//     ErrNotLeader means that the entry surely will not be applied, ErrOutcomeUnknown that it may be.
//   - Whatever is read back from disk was checked against a CRC. Bytes that fail it are never applied, served or
//     counted in a vote: the replicas that they may have belonged to begin anew under another Raft id and are filled by
//     their leaders ([Options].Rebuild, [Group.Quarantine]); on an only node they refuse to open.
//   - A write or sync that fails stops the store for good: Options.Fatal is called once and nothing more is
//     acknowledged. The sync is not tried again, since the kernel may by then have dropped the dirty pages.
//   - A torn tail (a frame that failed its check with nothing valid behind it) is the normal trace of a crash and is
//     cut off. A damaged frame with valid frames behind it is rot, and is reported as ErrDamaged.
//   - On a disk that is nearly full no commands are taken ([Store.Writable], ErrDiskFull), but votes are.
//
// # Parts
//
//	store      opens the directory, owns groups, snapshots them by bytes     wal       one log for all groups, one sync at a time
//	group      what callers use                                              format    bytes of segments, frames and records
//	machine    StateMachine as hashicorp/raft wants it                       logstore  a group's entries: index, tail cache
//	snapshot   state file, manifest, lazily streamed attachments             stable    a group's term and vote
//	transport  all groups over two connections per peer                      codec     bytes of the peer connection
//	transfer   attachments to a follower; fetch is its other end             gap       what rot took, and from whom
//	quarantine what becomes of damaged data                                  disk      free space and the reserve
//	survivor   a replica that carries on alone, by force, offline            handover  the lead to another voter
//	probe      finds out that a leader is dead                               succession  who stands for election in its place, and when
//	release    entries that keep the log's oldest segment
//
// hashicorp/raft decides; this package stores and carries. Its stores never return an error into hashicorp/raft,
// which would go on without its disk or panic: they block until the node has stopped.
//
// # Concurrency
//
// Everything exported may be called from any goroutine. One writer goroutine owns the write-ahead log's files. Each
// group has its own lock over its index and tail cache; it is held while a record is put into the pending frame, so
// lock order is group, then wal. The transport has one reader and one writer per connection, which never wait for a
// group: a group that can not keep up has its requests refused. StateMachine calls for one group never overlap.
//
// DESIGN.md has the formats, the reasons, the rejected ways and the figures.
package raftstore
