package client

import (
	"time"

	"github.com/pushd/pushd/protocol"
)

const (
	webhookTolerance = 5 * time.Minute // a signature's age, and its clock's error

	defaultServer = "http://127.0.0.1:7340"
	defaultWait   = 30 * time.Second // Options.MaxWait
	defaultEvery  = time.Second      // SubscribeOptions.PollEvery

	firstPause   = 50 * time.Millisecond // before the second try, doubled each time
	longestPause = 2 * time.Second
	longestLull  = 200 * time.Millisecond // that a server may ask for while it has no leader
	longestAsked = 10 * time.Second       // that an overloaded server may ask for
	longestMove  = 10 * time.Second       // that a draining server may ask for

	dialTimeout   = 2 * time.Second
	answerTimeout = 15 * time.Second // a whole answer that is not a stream or a long poll
	sendTimeout   = 15 * time.Second // of a WebSocket message
	idleTimeout   = 30 * time.Second // of an HTTP connection
	idlePerServer = 64               // HTTP connections kept

	// A dead host is found by TCP in 11 s, a process that hangs by its silence:
	// servers send a heartbeat on SSE each 15 s, and answer a WebSocket's ping.
	keepIdle     = 5 * time.Second
	keepEvery    = 2 * time.Second
	keepCount    = 3
	quiet        = 10 * time.Second // behind which a WebSocket is pinged
	silence      = 20 * time.Second // behind which it is dead
	sseSilence   = 25 * time.Second
	longPollWait = 20 * time.Second
	pollSlack    = 5 * time.Second // behind the wait

	maxAnswer  = 64 << 20
	maxFrame   = 16 << 20 // bytes of a WebSocket message from a server
	maxSSELine = 16 << 20
	readBuffer = 64 << 10

	batchBytes    = 4 << 20                   // past which a request takes no further event
	writerEvents  = 500                       // of one request of a Writer, and waiting for the next
	writerBytes   = 1 << 20                   // likewise, payloads
	frameCommands = protocol.MaxFrameCommands // of one WebSocket message to a server
	frameBytes    = 48 << 10                  // past which a frame takes no further command
	window        = 1024                      // publishes of a Publisher under way
)
