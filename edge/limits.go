package edge

import "time"

// Limits of what one client may ask for. Those of the words themselves are in
// protocol/limits.go.
const (
	maxWait          = 60 * time.Second // longest long poll; more is taken as this
	maxHeaderBytes   = 32 << 10         // request line and headers
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
	maxAnyReaders    = 1 << 16          // readers of a node, unless configured
	maxPooledBuffer  = 1 << 20          // bigger write buffers are not kept

	pullEvents = 256       // events asked of the broker at once by a stream
	fillBytes  = 128 << 10 // a write is made when this much is ready
	readChunk  = 32 << 10  // buffers grow by what has arrived, in steps of at most this

	headerTimeout  = 10 * time.Second  // request headers must have arrived
	bodyTimeout    = 60 * time.Second  // a request body must have arrived
	idleTimeout    = 120 * time.Second // an unused keep-alive connection
	answerTimeout  = 60 * time.Second  // an answer that is no stream must have been taken
	publishTimeout = 15 * time.Second  // of a WebSocket's publish
	settleTimeout  = time.Second       // a short poll waits for what it must see

	streamGrace = 4 * time.Second  // a stream's member may come back: SSE clients do so after retryAfter
	pollGrace   = 15 * time.Second // a poll's member may poll again

	heartbeat    = 15 * time.Second // SSE comments
	pingInterval = 25 * time.Second // WebSocket
	pongTimeout  = 10 * time.Second // an unanswered ping
	closeTimeout = 5 * time.Second  // a close handshake
	retryAfter   = 2 * time.Second  // SSE retry:
	drainSpread  = time.Second      // clients of a draining node come back spread over this
	preflightAge = "600"            // seconds that a browser remembers a preflight
)
