// Package peers measures pushd beside NATS JetStream, in one run on one
// machine: three processes of each, every event on three nodes, the same
// events, the same number in flight. It is a module of its own, so that the
// other system stays out of pushd's dependencies.
//
// It holds the systems to the same: publishers are this process, over three
// connections, one to each node, and each waits for its answer before it
// publishes again. What differs is what an answer means. pushd's says that two
// of three nodes have synced the event; JetStream's default syncs every two
// minutes, and with sync_interval always before each answer. pushd remembers the
// events' ids for 10 minutes; JetStream is given none, and no retention to see to,
// which are its cheaper ways.
//
// Rounds alternate (A B C A B C …), so that whatever changes on the machine
// meanwhile meets all alike. The systems that are not measured at the moment
// stay up, idle. CPU of a system's nodes is theirs as processes; that of its
// publishers is this process's.
package peers
