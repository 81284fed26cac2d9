// Package broker says what events mean: topics in partitions, publishers,
// readers, and the catalog of the cluster.
//
// # Promises
//
//   - A publish returns without an error only when its partition's log has
//     stored the event on a quorum. The same id again, within the window,
//     returns the first event's place and stores nothing.
//   - Offsets of a topic's epoch are dense from 1; positions of a partition are
//     dense from 1 and the same on every replica.
//   - A [Subscription] gives the events of its selectors, each once and in the
//     order of their partition, or says in a gap which ones are gone. It holds
//     places in the log, never events, so that a slow reader costs what a fast
//     one does. Its cursor is valid at every node.
//   - Bytes that fail their checksum are never given to anyone.
//
// # Parts
//
//	publish    queue    what comes in: batches, one under way per partition
//	partition  command  the state machine of one replica; topic, dedupe, retention, lostquorum
//	segment    tail     its events on file and in memory; read finds them
//	subscription        a reader; reading and lane while it reads; start and cursor
//	readers  wake live  who follows what, and how they hear of it
//	feed     remote     partitions held elsewhere: a copy of what is followed; questions for the rest; leaders
//	consumer            named readers whose progress is replicated; package webhook moves them
//	meta       catalog  which nodes hold what, and the policies
//
// What the broker needs of others it names in two interfaces: [Log], one
// partition's replicated log, and [Peers], the other nodes' brokers.
//
// # Concurrency
//
// Broker, Partition's reading methods and Meta may be used by any goroutine.
// Apply, Snapshot and Restore of one state machine never overlap; they are the
// only writers of its state. A Subscription's Pull, Arm and Close belong to one
// goroutine at a time. Wake functions are called without any lock held, and may
// call Pull. Lock order: Subscription, Broker, Partition; nothing does I/O under
// a Partition's lock.
package broker
