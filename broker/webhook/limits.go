package webhook

import "time"

const (
	defaultConcurrency = 8   // requests in flight to one endpoint
	maxConcurrency     = 64  // the same, at most
	maxPerHost         = 32  // requests in flight to one host and port
	maxPerNode         = 256 // requests in flight in all
	maxTroubled        = 128 // of those, to endpoints whose last answer was a failure
	window             = 64  // settled events of one consumer and partition whose progress is not replicated yet
	minReadAhead       = 16  // events that a lane holds ready; more with more concurrency
	maxFailing         = 1024
	feedPlaces         = 512 // events looked at by a partition's feed at once

	saveSettles  = 256                    // settled events of a partition after which progress is replicated at once
	saveLane     = 48                     // the same of one lane: before its window closes
	saveAfter    = 250 * time.Millisecond // the longest that progress waits otherwise
	saveApart    = 5 * time.Millisecond   // the least between two
	saveTimeout  = 5 * time.Second
	maxSaveBytes = 128 << 10 // of one log entry
	staleFloor   = 10_000    // positions by which a saved floor may lag before it is saved along with others

	connectTimeout = 5 * time.Second
	attemptTimeout = 15 * time.Second // a whole exchange
	maxAnswerBytes = 64 << 10         // read of an answer; what is longer costs the connection
	keptAnswer     = 2 << 10          // shown to the owner
	maxAnswerHead  = 64 << 10         // of an answer's headers
	idlePerHost    = maxPerHost
	idleTimeout    = 90 * time.Second

	firstDelay      = 2 * time.Second
	delayFactor     = 3
	maxDelay        = 6 * time.Hour
	maxRetryAfter   = 24 * time.Hour
	defaultAttempts = 24
	maxAttempts     = 1000
	defaultMaxAge   = 72 * time.Hour
	maxMaxAge       = 30 * 24 * time.Hour
	poisonAttempts  = 3                  // an event that its endpoint calls malformed or too large
	readRetry       = 5 * time.Second    // an event that could not be read, or a dead letter that could not be stored
	breakerFailures = 5                  // in a row
	breakerMessages = 3                  // of so many events, unless the failures are plainly the endpoint's
	firstProbe      = 5 * time.Second    // after the breaker opened; doubles
	maxProbe        = 5 * time.Minute    // between probes
	failingEvent    = 5 * time.Minute    // of failures until one is told of them
	disableAfter    = 5 * 24 * time.Hour // of nothing but failures
	blockedDisable  = time.Hour          // of nothing but addresses that are not allowed

	verifyFor      = 24 * time.Hour   // an endpoint is asked to agree
	maxVerifyDelay = 10 * time.Minute // between two times
	origin         = "pushd"          // what the CloudEvents handshake calls us

	minSecret      = 24 // bytes
	maxSecret      = 64
	newSecret      = 32
	maxSecrets     = 3 // that sign at a time
	secretOverlap  = 24 * time.Hour
	maxURL         = 2048
	maxTypes       = 128
	maxHeaders     = 20
	maxHeaderBytes = 4 << 10
	maxDescription = 1024
	maxRate        = 1e6

	maxGaps      = 1024    // topics whose next event tells of a gap
	maxLogged    = 1000    // attempts remembered of one webhook
	minLogged    = 16      // the same, where there are many
	maxAllLogged = 400_000 // in all, about 64 MiB

	pollPeriod    = 50 * time.Millisecond  // looks at who leads what, and at the catalog
	timerPeriod   = 100 * time.Millisecond // looks at what is due again
	drainTimeout  = 5 * time.Second        // a planned hand-over waits for requests
	idPrefix      = "wh_"
	findTimeout   = 250 * time.Millisecond // a registration made elsewhere is waited for
	findPeriod    = 10 * time.Millisecond
	keyTimeout    = 5 * time.Second  // a node waits for the key of secrets
	followTimeout = time.Second      // a node waits for a change that another has made
	takeUpTimeout = 5 * time.Second  // and the maker of the change for the leaders to go by it
	askTimeout    = 2 * time.Second  // of other nodes
	sweepPeriod   = 10 * time.Minute // looks for consumers that are nobody's
	orphanAge     = time.Hour        // that consumers are surely no part of a registration under way
	listAtOnce    = 16               // webhooks of a list that are asked about at a time
	replaySuffix  = "/replay"
	replayTurns   = 4 // one of so many requests is a replay's while there are others
)
