package cluster

import "time"

const (
	maxMetaBytes      = 512 // memberlist's own limit, beyond which it panics
	maxIDBytes        = 64
	maxNameBytes      = 64 // zone and version have it too
	maxClusterIDBytes = 64
	maxRoleBytes      = 16
	maxAddrBytes      = 96
	maxKnown          = 1024 // remembered gossip addresses, and nodes that are gone
	maxSeedAddrs      = 64   // of one host name
	keepDead          = 72 * time.Hour
	probeInterval     = 500 * time.Millisecond
	probeTimeout      = 200 * time.Millisecond
	suspicionMult     = 3
	suspicionMax      = 3 // times that for who accuses alone: a node that is cut off drops its last peer after 8 s
	gossipInterval    = 100 * time.Millisecond
	retransmitMult    = 8
	pushPull          = 10 * time.Second
	streamTimeout     = 3 * time.Second // memberlist's TCP: a round of joins takes no longer
	reclaim           = time.Second     // a dead node may be elsewhere from then on
	settleAfter       = 4 * time.Second // twice rejoinEvery
	contestedFor      = 15 * time.Second
	resolveTimeout    = 2 * time.Second
	firstJoin         = 200 * time.Millisecond
	rejoinEvery       = 2 * time.Second
	noWait            = time.Millisecond // memberlist takes 0 for ever
	leaveTimeout      = 2 * time.Second
	joinTries         = 8 // addresses asked per round, of each seed and of the last-known

	keyBytes = 32 // of a cluster key
	maxKeys  = 8

	fingerprintBytes = 4            // of a key's name
	peerName         = "pushd-node" // that nodes' certificates are for

	helloTimeout      = 5 * time.Second
	dialTimeout       = 2 * time.Second
	writeTimeout      = 10 * time.Second
	pingPeriod        = time.Second
	silenceLimit      = 4 * time.Second // of a peer that owes an answer or an acknowledgement
	keepAliveIdle     = 2 * time.Second
	keepAliveInterval = time.Second
	keepAliveCount    = 3
	maxFrameBytes     = 16 << 20
	maxCallBytes      = maxFrameBytes - callHead - callTail // of a request or an answer, in all versions
	maxQueuedBytes    = 64 << 20                            // waiting to be written to one peer
	maxPieceBytes     = 1 << 20                             // of one write
	maxSpareBytes     = 1 << 20                             // of a buffer that is kept for the next write
	readBuffer        = 64 << 10
	maxInFlight       = 64 << 10    // calls to one peer that wait for their answers
	maxServing        = maxInFlight // calls of one peer under way
	maxServingBytes   = 256 << 20   // of their requests
	maxErrorBytes     = 4 << 10
	maxConns          = 4096
)

const (
	maxTallyEntries = 8 << 20 // topics with members at one node
	maxTallySpans   = 256     // pieces of a node's history that are here before what was before them
	tallySweep      = 10 * time.Minute
)

const (
	minLeft         = 64 // members of a topic that left are remembered up to this, or as many as are there
	memberItemBytes = 40 // of an item beside its texts, about
	presenceBurst   = 50 // pushes a second about one topic; more become one
	presencePause   = 250 * time.Millisecond
)

const (
	deltaPerNode    = 6 * time.Millisecond   // between a node's packets of changes, for each that gets them; the first after a lull goes at once
	minDelta        = 20 * time.Millisecond  // the least
	maxDelta        = 200 * time.Millisecond // and the most of that pause
	headEvery       = time.Second            // a node's newest version is repeated so long after a change
	pullAfter       = 300 * time.Millisecond // what is missing for so long is asked for
	askPause        = 500 * time.Millisecond // after a node did not answer
	askTimeout      = 5 * time.Second        // for an answer
	settleWithin    = time.Second            // a list waits so long for other nodes
	keepAudience    = 5 * time.Second        // a topic's members are followed after the last question about them
	farewellGrace   = 5 * time.Second        // the members of a node that stopped come back elsewhere: longer than any stream's grace
	keepDown        = 20 * time.Minute       // a dead node may come back with the members that it had
	sweepEvery      = 5 * time.Second
	longestPause    = 5 * time.Second
	maxReplicas     = 4 << 10
	maxHeadBytes    = 18      // of a digest, for one replica
	maxDeltaItems   = 100     // of one packet: 1,150 bytes at most, since it must fit into memberlist's
	maxDeltas       = 32      // packets at a time; what is more, the others ask for
	maxPageItems    = 1 << 19 // of an answer, whose frame has 16 MiB
	minItemBytes    = 10
	maxAsked        = 1 << 10 // topics in one question
	maxMembersBytes = 4 << 20 // of an answer, about
	minMemberBytes  = 6
)
