package cluster

import "time"

const (
	maxMetaBytes   = 512 // memberlist's own limit, beyond which it panics
	maxNameBytes   = 64
	maxAddrBytes   = 96
	maxKnown       = 1024 // remembered gossip addresses
	keepDead       = 72 * time.Hour
	probeInterval  = 500 * time.Millisecond
	probeTimeout   = 200 * time.Millisecond
	suspicionMult  = 3
	suspicionMax   = 4
	gossipInterval = 100 * time.Millisecond
	retransmitMult = 8
	pushPull       = 10 * time.Second
	reclaim        = time.Second // a node that restarted elsewhere comes back so soon
	firstJoin      = 200 * time.Millisecond
	rejoinEvery    = 2 * time.Second
	leaveTimeout   = 2 * time.Second
	joinTries      = 3 // last-known members tried per round, beside the seeds

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
	maxSpareBytes     = 1 << 20  // of a buffer that is kept for the next write
	readBuffer        = 64 << 10
	maxInFlight       = 64 << 10 // calls to one peer that wait for their answers
	maxServing        = 1024     // calls of one peer under way
	maxErrorBytes     = 4 << 10
	maxConns          = 4096
)
