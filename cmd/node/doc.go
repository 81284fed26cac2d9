// Package node wires one pushd process: it reads the node's identity, opens
// its listeners, and fits raftstore, cluster, broker and edge together, none of
// which knows the others.
//
//	edge ──> broker ──Log──> raftstore ──Listen/Dial──> cluster.Link
//	            └──Peers──────────────────────────────────┘
//
// [Start] returns a running node, [Run] runs one until its context ends, and
// [RunDev] runs a whole throw-away cluster in one process.
//
// One goroutine, the reconciler, holds the node to the catalog: it opens the
// groups that the catalog gives to this node; where the node leads the meta
// group it also registers nodes and places replicas; where it leads a partition
// it adds, promotes and removes that group's replicas, one change at a time.
// Every pass starts from what is there, so a pass that fails is simply followed
// by another.
//
// A node stops for good (its Fatal channel yields) when its disk fails, when
// its name turns out to be taken, or when it meets another cluster.
package node
