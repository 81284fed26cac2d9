// Package netns gives each node of a test a network namespace of its own, so
// that real processes can be cut off from one another as machines are. It needs
// Linux, and root or the right to make user namespaces; no installed tool.
//
//	              the test's own namespace
//	     clients  10.78.0.254        switch "peers"
//	       │                          │     │     │
//	 switch "clients"                 │     │     │      cut here, one by one,
//	  │    │    │                     │     │     │      or one way between two
//	10.78.0.1  .2  .3            10.77.0.1  .2   .3
//	  └────┴────┴── the nodes' namespaces ──┴─────┘
//
// Nodes talk to one another over the switch of peers, which a test cuts and
// heals. Clients, and webhooks' receivers, use the other one, which is always up:
// so a test sees what a node says that no other node can reach.
//
// A test that calls [Inside] runs itself again, as a process of its own in a new
// namespace, and does the work there: the machine's own network is never
// touched, and when that process ends, however it does, the kernel takes all of
// it away.
package netns
