package node

import "time"

const (
	defaultPartitions = 8
	maxPartitions     = 64
	defaultReplicas   = 3
	maxReplicas       = 7
	defaultGrace      = 10 * time.Minute
	minGrace          = time.Second
	maxNameBytes      = 64
	cursorKeyBytes    = 32  // of what cursors are signed by
	maxSocketPath     = 107 // bytes of a Unix socket's path; the kernel's
	metaVoters        = 5   // more voters slow every catalog change and add no safety worth it

	reconcilePeriod = 500 * time.Millisecond // between passes when nothing calls for one
	catchUpPeriod   = 20 * time.Millisecond  // the same while replicas of this node catch up
	changeTimeout   = 5 * time.Second        // one change to a group's replicas or to the catalog
	transferPeriod  = time.Second            // between two hand-overs of leaders by preference
	caughtUpWithin  = 2 * time.Second        // a learner that answered so long ago is not promoted
	statusTimeout   = time.Second            // asking another node how its replicas are, for a person
	askTimeout      = 200 * time.Millisecond // asking another node what this one can go on without
	silenceLook     = 50 * time.Millisecond  // between looks for leaders that say nothing
	silentFor       = 300 * time.Millisecond // a leader that says nothing for so long is called
	callFor         = 150 * time.Millisecond // and replaced if it does not answer within this
	heardLately     = 200 * time.Millisecond // a leader that another node has heard so lately lives
	silenceRest     = time.Second            // between taking over from one node twice
	voteLook        = 100 * time.Millisecond // between looks whether a replica has a vote: readers ask all the time, and Raft allocates for its answer
	redeemTimeout   = 2 * time.Second        // a ticket's node has to answer within this
	strayFor        = 3 * time.Second        // a replica that the catalog gives to others is kept so long
	releaseFor      = 5 * time.Second        // a node that was told to drop a replica does not get it again
	defaultDrain    = 25 * time.Second       // less than the 30 s after which orchestrators kill
	noticeLimit     = 5 * time.Second        // a stopping node serves on so that who probes it learns of it
	noticeProbes    = 3                      // probes that have to fail for a load balancer to believe it
	moveRate        = 2000                   // clients that one node takes over in a second from those that drain
	flushTimeout    = 2 * time.Second        // a stopping node sends its last spans within this
	joinReminder    = 5 * time.Second        // between log lines while no member of --join answers
	keyPeriod       = 200 * time.Millisecond // between looks for the key of webhook secrets
	seenPause       = 2 * time.Millisecond   // between looks for a change in this node's catalog
	keyFilePeriod   = 5 * time.Second        // between looks at the file of cluster keys
	retryPause      = 50 * time.Millisecond  // between looks for the catalog's leader

	recordLag    = time.Minute     // at most between a join and its record
	recordPeriod = time.Second     // between looks for topics whose presence is to be recorded
	recordRounds = 10              // of them all are looked at anew
	recordCheck  = 5 * time.Second // between looks at one topic that nobody joins or leaves
	recordIdle   = 6               // such looks at an empty topic end its recording
	recordTopics = 1000            // that one call tells of
)
