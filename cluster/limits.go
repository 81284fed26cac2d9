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
	suspicionMax      = 4
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

	helloTimeout      = 5 * time.Second
	dialTimeout       = 2 * time.Second
	writeTimeout      = 10 * time.Second
	pingPeriod        = time.Second
	silenceLimit      = 4 * time.Second // of a peer that owes an answer or an acknowledgement
	keepAliveIdle     = 2 * time.Second
	keepAliveInterval = time.Second
	keepAliveCount    = 3
	maxFrameBytes     = 16 << 20
	maxQueuedBytes    = 64 << 20 // waiting to be written to one peer
	maxPieceBytes     = 1 << 20  // of one write
	maxSpareBytes     = 1 << 20  // of a buffer that is kept for the next write
	readBuffer        = 64 << 10
	maxInFlight       = 64 << 10    // calls to one peer that wait for their answers
	maxServing        = maxInFlight // calls of one peer under way
	maxServingBytes   = 256 << 20   // of their requests
	maxErrorBytes     = 4 << 10
	maxConns          = 4096
)
