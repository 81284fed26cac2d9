package broker

import "time"

const (
	maxBatchEvents  = 1024      // events of one log entry
	maxBatchBytes   = 256 << 10 // of one log entry, unless one event alone has more
	maxQueuedEvents = 16 << 10  // publishes waiting for one partition at one node
	publishTimeout  = 10 * time.Second
	gatherFrom      = 4                      // events of a node's batch behind which the next one waits
	gatherFor       = time.Millisecond       // for so long
	retryPause      = 20 * time.Millisecond  // between looks for a leader
	leaderLook      = 50 * time.Millisecond  // between looks whether who is asked still leads
	leaderAnswer    = 200 * time.Millisecond // another node tells within this who leads

	segmentBytes     = 64 << 20
	flushBytes       = 64 << 10 // unwritten bytes of a segment
	defaultTailBytes = 4 << 20
	maxEntryBytes    = 12 << 20 // what a log entry may claim

	dedupeWindow = 10 * time.Minute
	dedupeMin    = 100_000   // ids kept however old
	dedupeMax    = 1_000_000 // ids kept however young

	maxProducers      = 10_000  // remembered per partition
	recentOfProducer  = 64      // events of a producer that are known when they come again
	maxTombstones     = 10_000  // deleted topics remembered per partition
	maxOldEpochs      = 64      // deleted epochs remembered per topic
	lostQuorumLeap    = 1 << 40 // positions: two months at 200,000 events a second
	maxLostWithQuorum = 1024    // topics that one webhook is told of at once
	ephemeralQueue    = 64      // unstored events waiting for one reader
	readerShards      = 256     // of the registry of readers
	fewSelectors      = 8       // of one reader, that are looked through one by one
	settleTimeout     = time.Second
	trimPeriod        = 500 * time.Millisecond
	trimChunk         = 4096             // topics or records that retention looks at under one lock
	forgetEmpty       = time.Hour        // a topic without events is forgotten
	forgetDeleted     = 24 * time.Hour   // a deleted topic is
	maxForgotten      = 4096             // topics of one log entry that forgets them
	repairPause       = 10 * time.Second // between attempts to repair a record
	scrubPause        = time.Minute      // between looks for something to scrub
	scrubRecords      = 256              // read before the pace is kept
	defaultScrub      = 1 << 20          // bytes per second
	compactBelow      = 4                // a segment is written anew when less than 1/4 of it is retained
	maxLimitedTopic   = 50_000           // topics of a start at -N, or of a pattern, whose limits one node tells another
	defaultMaxAge     = 24 * time.Hour
	defaultMaxCount   = 10_000
	defaultMaxBytes   = 64 << 20
	pullBytes         = 1 << 20 // payload of one batch, past which it ends

	maxFeedSelectors = 64 << 10 // topics and patterns that a feed asks for singly
	maxFeedText      = 8 << 20  // bytes of them
	maxFeedChange    = 4096     // of one call that changes them
	maxSources       = 1024     // streams from one replica
	feedFrameBytes   = 256 << 10
	feedLook         = 4096                   // positions that a source looks at under one lock
	feedTick         = time.Second            // between a feed's looks after itself
	feedLinger       = 10                     // such turns for which a topic without readers is still asked for
	feedKeep         = 30 * time.Second       // a copied event stays in memory
	feedBeat         = 500 * time.Millisecond // a stream says where it is at least so often
	feedLead         = 250 * time.Millisecond // between a source's looks whether it is the right one, and a feed's whether it is heard
	feedCurrent      = 2 * feedBeat           // a feed that has heard nothing for longer may lack something
	feedSilence      = time.Second            // of a source, after which others are asked who leads
	feedSilenceLimit = 2 * time.Second        // after which it is given up
	feedDetour       = 5 * time.Second        // for which a leader that was mute is left alone; another one is not
	feedPatience     = 3                      // rounds without any source after which readers ask for themselves

	feedRetry     = 200 * time.Millisecond
	remoteTimeout = 5 * time.Second
	remoteHedge   = 200 * time.Millisecond // without an answer, after which the next replica is asked too
	maxReadEvents = 1024
	maxTopicsPage = 1000
	maxPolicies   = 10_000
	maxNodes      = 10_000
	maxRemoved    = 1024 // nodes remembered not to come back
	maxNameBytes  = 255

	MaxOpenEvents    = 2048     // events at or before its floor that a consumer may have open in one partition
	maxConsumers     = 40_000   // of one partition
	MaxConsumerOps   = 1024     // of one log entry
	maxConsumerState = 1 << 20  // bytes
	maxWebhooks      = 20_000   // each may have a replay beside it
	listSpan         = 16 << 10 // index entries looked at under the lock at once
)
