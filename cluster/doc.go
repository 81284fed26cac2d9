// Package cluster knows which nodes there are, how to reach them and what they
// gossip. It decides nothing about data: gossip is a hint, and nothing that it
// says grants a right.
//
// # Parts
//
//	cluster  gossip  node   membership by memberlist; a node's facts in its metadata
//	seeds                   how a node finds the others, again and again
//	link  linkcall          one listener for all traffic between nodes: connections
//	      linkstream        by kind, calls that are coalesced
//	placement               which nodes ought to hold which partition: a pure function
//
// # Promises
//
//   - Two clusters never mix: a node that belongs to one refuses another's
//     gossip and its peer connections, and says so in words.
//   - A node name is held by one node. The newcomer stops with [ErrNameTaken].
//   - A split of any length heals within ten seconds of the network's healing:
//     memberlist alone would not look for the dead again.
//   - A call's error tells whether the request surely did not arrive
//     ([ErrUnreachable]), may have arrived ([ErrOutcomeUnknown]), or was refused
//     by the other side ([RemoteError]).
//
// # Concurrency
//
// Everything exported may be used by any goroutine. memberlist's callbacks hold
// its locks, so ours only copy into a queue; one goroutine works it off.
package cluster
