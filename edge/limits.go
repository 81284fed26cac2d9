package edge

import "time"

// Limits of what one client may ask for. Those of the words themselves are in
// protocol/limits.go.
const (
	maxWait          = 60 * time.Second // longest long poll; more is taken as this
	maxHeaderBytes   = 32 << 10         // request line and headers
	maxRestoreBody   = 16 << 20         // POST /v1/cluster/restore
	maxBatchBody     = 16 << 20         // POST /v1/events
	maxDiscard       = 4 << 20          // read off a refused HTTP/2 body before the answer
	maxPolicyBody    = 16 << 10         // PUT /v1/policies/…
	maxChangeBody    = 16 << 10         // POST /v1/cluster/…
	maxWebhookBody   = 64 << 10         // POST and PATCH /v1/webhooks
	maxCommandBytes  = 64 << 10         // a WebSocket command other than publish
	maxControlBytes  = 125              // RFC 6455 §5.5
	maxFragments     = 1 << 10          // frames of one WebSocket message
	maxInFlight      = 1024             // publishes under way on one WebSocket
	maxInFlightBytes = 4 << 20          // their payloads
	maxReplyBytes    = 1 << 20          // replies waiting to be written to one WebSocket
	maxPresenceQueue = 64               // changes that one slow reader is yet to be told
	maxSubscribes    = 128              // subscriptions of one WebSocket
	maxQueued        = 256 << 10        // of a feed's events waiting for one socket; the rest is read from the log again
	maxLoopQueued    = 64 << 20         // the same, of all sockets of a loop
	maxFeedBytes     = 256 << 10        // events of a feed that are not written to everybody yet; no more are pulled
	maxForms         = 8                // encodings of a chunk that are kept
	maxVectors       = 64               // pieces of one write
	maxAnyReaders    = 1 << 16          // readers of a node, unless configured
	maxRefusing      = 256              // connections being told that they are too many; others are just closed
	filesKept        = 1000             // descriptors that are not for connections, unless configured
	minDeflate       = 256              // smaller messages are sent as they are
	maxPooledBuffer  = 1 << 20          // bigger write buffers are not kept

	pullEvents = 256       // events asked of the broker at once by a stream
	fillBytes  = 128 << 10 // a write is made when this much is ready
	readChunk  = 32 << 10  // buffers grow by what has arrived, in steps of at most this
	readBuffer = 64 << 10  // a loop reads at most this from a socket at once
	pipeBuffer = 16 << 10  // the same for a connection that is no plain socket
	pipeIdle   = 512       // and while little comes: this is held by each of them
	sealBytes  = 64 << 10  // of TLS, in one write
	sealLeast  = 1 << 10   // the same, where a loop's sockets have taken too little of it
	notSent    = 128 << 10 // bytes that the kernel queues for a socket, beside what is on its way

	encodedRoom   = 320  // bytes of an encoded event beside its payload
	smallFeed     = 64   // feeds with at most this many followers go before others
	visitsPerTurn = 64   // writes between two looks at the sockets
	readsPerTurn  = 16   // follows on their own that read between two looks
	pullsPerTurn  = 4    // reads of one of them
	handedQueue   = 1024 // connections on their way to net/http

	headerTimeout = 10 * time.Second  // request headers must have arrived
	bodyTimeout   = 60 * time.Second  // a request body must have arrived
	idleTimeout   = 120 * time.Second // an unused keep-alive connection
	answerTimeout = 60 * time.Second  // an answer that is no stream must have been taken
	settleTimeout = time.Second       // a poll whose time is up has so long yet to begin: the broker's own
	stallTimeout  = 30 * time.Second  // a socket has to take something
	keepAlive     = 60 * time.Second  // TCP asks a silent peer whether it is there
	acceptPause   = 100 * time.Millisecond
	spareSilence  = 10 * time.Second       // between two log lines about descriptors
	tickLength    = 250 * time.Millisecond // connections expire at a tick
	standstill    = 2 * time.Second        // between two looks at the clock

	streamGrace = 4 * time.Second  // a stream's member may come back: SSE clients do so after retryAfter
	pollGrace   = 15 * time.Second // a poll's member may poll again

	heartbeat    = 15 * time.Second       // SSE comments
	pingInterval = 25 * time.Second       // WebSocket
	pongTimeout  = 10 * time.Second       // an unanswered ping
	closeTimeout = 5 * time.Second        // a close handshake
	retryAfter   = 2 * time.Second        // SSE retry:
	drainShares  = 50                     // of a window, in which loops tell their readers to move
	drainStride  = 19                     // from one to the next: has no factor in common with drainShares
	drainSpread  = 200 * time.Millisecond // a client that was told to move comes back within this
	preflightAge = "600"                  // seconds that a browser remembers a preflight
)

// Limits of authentication.
const (
	maxGrants      = 128     // patterns of one cap
	maxAuthKeys    = 64      // keys of one source that tokens are checked by
	maxTried       = 8       // public keys of one source that one token is tried by
	maxAPIKeys     = 10_000  // lines of a file of API keys
	maxRemoved     = 10_000  // API keys that were taken out, and are known to have been good
	maxKeyFile     = 8 << 20 // any file of keys
	maxJWKS        = 64 << 10
	maxRemembered  = 4096    // tokens, twice: verified lately
	maxTickets     = 100_000 // that a node has given out and nobody has used yet
	maxOwnTickets  = 1000    // the same, of one who asked for them
	minAged        = 64      // used tickets that are not worth looking through the list
	maxTicketBytes = 256
	minSecretBytes = 16 // of an HS256 secret; RFC 7518 asks for 32, less than which is warned of

	authLeeway   = 5 * time.Second  // by which clocks may differ
	tokenNotice  = 30 * time.Second // before a token ends its client is told
	ticketTime   = 60 * time.Second // a ticket's
	keyFileEvery = time.Second      // files are looked at
	jwksEvery    = 5 * time.Minute  // an issuer's keys are fetched
	jwksPause    = 10 * time.Second // between two fetches for keys that are not known
	jwksTimeout  = 5 * time.Second  // of a fetch
)
