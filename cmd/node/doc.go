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
// group it also registers nodes, places replicas, replaces nodes that have been
// away for longer than the grace, and removes those that are to leave; where it
// leads a partition it adds, promotes and removes that group's replicas, one
// change at a time. Every pass starts from what is there, so a pass that fails
// is simply followed by another.
//
//	reconcile membership   the passes; what leads to a group's wanted replicas
//	leadmeta propose       what the catalog's leader does; how others have it do something
//	absence leave change   who is gone, how a node goes, what operators ask for
//	release                replicas that are others' now
//	recover recoveryplan   a cluster that lost its quorum, offline; what its survivors have, and what becomes of it
//	drain silence          SIGTERM; leaders that hang
//	protocols              the versions that this node speaks
//	network                the operating system's, or one of a simulation
//	status readers         what is asked of all nodes
//	metrics telemetry      what the parts below the edge tell at /metrics; spans
//	presence               who is in a topic, where its policy allows it
//	presencelog presencerecord   the record of it: which node keeps which; one topic's
//
// Promises: a replica is dropped only after its group's leader has said that
// the group does without it; the catalog forgets a node of a partition only
// once all others that the partition is to have vote; a node that the cluster
// has removed never comes back under its id.
//
// A node stops for good (its Fatal channel yields) when its disk fails, when
// its name turns out to be taken, when it meets another cluster, or when its
// own has removed it.
package node
