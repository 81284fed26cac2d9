// Package cluster knows which nodes there are, how to reach them and what they
// gossip. It decides nothing about data: gossip is a hint, and nothing that it
// says grants a right.
//
// # Parts
//
//	cluster  listen     what others use; how memberlist is set up
//	node  gone          a node, and the bytes that tell of it
//	gossip  members     memberlist's callbacks; the view that is made of them
//	join  seeds         how a node finds the others again and again, or must stop
//	recovered           what becomes of nodes that a recovered cluster gave up
//	version             which versions of the protocol nodes understand, and speak
//	link  linkhello     one listener for all traffic between nodes; who calls whom, in which version
//	linkcall linkwriter calls: one connection per ordered pair, coalesced writes
//	linkstream          frames that one node pushes to another
//	keys keyring        the cluster's secrets; how they change while it runs
//	placement           which nodes ought to hold which partition: a pure function
//	presence  attendances of clients in topics; what the rest of the package is asked
//	  tally delta       counts by topic of one run of a node; the state that is gossiped
//	  roster audience notice   members by way of this node; by way of all; what is told of them
//	  replica spread pull codec   whose tallies there are; how they travel
//
// # Promises
//
//   - Two clusters never mix: a node that belongs to one refuses another's
//     gossip and its peer connections, and says so in words. A node that belongs
//     to none adopts the first that it meets.
//   - A node name is held by one node, for 72 h after it died or stopped too,
//     unless it is forgotten ([Cluster.Forget]). The
//     newcomer stops with [ErrNameTaken], the other one stays, whatever their
//     clocks say.
//   - Any two living members have a version of the protocol in common. A newcomer
//     that some member does not understand stops with [ErrTooFarApart], and the
//     members log why.
//   - A node id is used by one process. The newcomer stops with [ErrTwice]; a
//     node that merely moved to another address does not.
//   - A split of any length heals within ten seconds of the network's healing:
//     memberlist alone would not look for the dead again.
//   - Presence converges to what its nodes say, in any order of packets, with any
//     of them lost or doubled: within a second of a change, within ten of a
//     node's death or a split's healing. A watcher's list, changed by what it is
//     told, is always one that [Presence.List] could have given.
//   - A call's error tells whether the request surely did not arrive
//     ([ErrUnreachable]), may have arrived ([ErrOutcomeUnknown]), or was refused
//     by the other side ([RemoteError]). A dead or frozen host is found within
//     6 s, however long an answer may take a living one.
//
// # Concurrency
//
// Everything exported may be used by any goroutine. memberlist's callbacks hold
// its locks, so ours only copy into an ordered queue; one goroutine works it
// off. Handlers run on goroutines of their own; a peer's calls beyond the limits
// are refused at once. Close returns after all goroutines of ours have ended.
package cluster
