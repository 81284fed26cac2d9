// Package peers measures pushd beside what else there is, in one run on one
// machine. It is a module of its own, so that the other systems stay out of
// pushd's dependencies. Rounds alternate (A B C A B C …), so that whatever
// changes on the machine meanwhile meets all alike.
//
// # Edges
//
// BenchmarkEdge measures what clients cost one server: pushd, centrifuge as a
// library, NATS, Nchan where nginx has it (Debian's packages nginx and
// libnginx-mod-nchan, or PUSHD_PEERS_NGINX and PUSHD_PEERS_NCHAN for the two
// files), and the floor, a bare loop of sendto over as many sockets. The server
// has one CPU, with GOMAXPROCS=1, and the clients another. One load, a crowd of
// raw sockets on one thread, speaks to all of them, and fails if a reader
// misses an event, gets one twice or out of order. CPU is the server process's,
// by the clock that the kernel keeps for it: on loopback that includes what the
// kernel does to deliver.
//
// With PUSHD_BENCH=long it takes some 15 minutes, otherwise one. Memory is what
// the process has in use as it is, whatever its garbage collector has yet to do.
//
// An event at a time means that the next is published when everybody has the
// last one. PUSHD_PEERS=pushd,floor measures only those, and -bench Edge/idle,
// Edge/SSE or the like only some loads.
//
// # JetStream
//
// BenchmarkBesideJetStream measures durable publishing: three processes of
// each, every event on three nodes, the same events, the same number in flight.
// Publishers are this process, over three connections, one to each node, and
// each waits for its answer before it publishes again. What differs is what an
// answer means. pushd's says that two of three nodes have synced the event;
// JetStream's default syncs every two minutes, and with sync_interval always
// before each answer. pushd remembers the events' ids for 10 minutes; JetStream
// is given none, and no retention to see to, which are its cheaper ways. The
// systems that are not measured at the moment stay up, idle. CPU of a system's
// nodes is theirs as processes; that of its publishers is this process's.
package peers
