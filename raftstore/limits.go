package raftstore

import "time"

// Limits. Sizes are bytes.
const (
	// MaxEntryBytes bounds the data of one entry: an event of 1 MiB, with room for what surrounds it.
	MaxEntryBytes = 2 << 20

	// MaxGroups bounds the open groups of a node, and with them the size of the state frame of a segment.
	MaxGroups = 1024

	maxAppendEntries  = 16                                         // entries of one AppendEntries
	maxPeerFrameBytes = maxAppendEntries*(MaxEntryBytes+64) + 4096 // one frame on a peer connection
	maxPeerQueueBytes = 2 * maxPeerFrameBytes                      // bytes waiting to be written to one peer connection
	maxGroupInbox     = 256                                        // requests waiting for one group
	pipelineWindow    = 8                                          // appends in flight to one follower of a group
	beatsPerTimeout   = 4                                          // beats of a node in one HeartbeatTimeout
	handoverRounds    = 16                                         // of replication, behind which it has surely seen what a failed hand-over left
	transferAttempts  = 3                                          // tries of one leadership transfer
	maxNodeIDBytes    = 128
	maxPeerConns      = 4096
	maxNodesKnown     = 1024 // replaced replicas that a group remembers; refusals teach it again

	defaultSegmentBytes  = 16 << 20
	minSegmentBytes      = 4 << 10
	maxSegmentBytes      = 1 << 30
	maxFrameBytes        = 4 << 20 // a frame takes no further record beyond this; one record may still exceed it
	maxRecordBytes       = MaxEntryBytes + 4096
	maxGroupEntries      = 1 << 26  // entries a group may hold in the log; more is taken for damage
	maxQueuedBytes       = 64 << 20 // bytes waiting for the disk beyond which appending waits
	maxWALSegments       = 16       // beyond this, what pins the oldest segment is snapshotted or copied forward
	lostFrames           = 1 << 32  // sequences left free for frames that were lost at the end of the log
	defaultMinFree       = 2 << 30  // free bytes below which no events are taken, or a tenth of the disk if that is less
	noRoomPart           = 4        // part of that below which a follower takes no commands
	maxQuarantined       = 16       // things kept in the quarantine
	spareSegments        = 2        // emptied segments kept for reuse
	copyForwardBytes     = 1 << 20  // a group's rest in the oldest segment up to this is copied, more is snapshotted
	snapshotBytes        = 32 << 20 // log of a group since its last snapshot
	trailingPart         = 4        // part of SnapshotBytes that a log keeps behind a snapshot for followers that lag
	tailBytes            = 4 << 20  // newest entries of a group kept in memory
	nodeTailBytes        = 64 << 20
	pressedTailBytes     = 256 << 10 // per group once nodeTailBytes is passed
	chunkBytes           = 256 << 10 // of an attachment in one frame
	transferSyncBytes    = 8 << 20   // of an attachment between two syncs
	transferRate         = 64 << 20  // bytes of attachments that a node sends in a second
	maxStateBytes        = 4 << 30   // state of one snapshot
	maxAttachments       = 1 << 16
	maxAttachmentName    = 255
	maxManifestBytes     = 64 << 20
	maxStreamHeaderBytes = 32 << 20
)

// Times.
const (
	defaultHeartbeatTimeout = 500 * time.Millisecond
	defaultElectionTimeout  = 500 * time.Millisecond
	defaultCommitTimeout    = 500 * time.Millisecond

	noticeLinger  = time.Millisecond       // commit notices of all groups collected at most so long
	markerIdle    = time.Second            // an idle log gets a frame that shows its last one was synced
	stallAfter    = 2 * time.Second        // a sync that takes longer counts as a hung disk
	rankStep      = 150 * time.Millisecond // between the voters that follow a dead leader
	outdoAfter    = 20 * time.Millisecond  // between a vote that was refused and standing oneself
	probeFor      = time.Second            // how long a broken leader is redialled until it is refused or answers
	probeEvery    = 20 * time.Millisecond
	dialTimeout   = 2 * time.Second
	holdFor       = time.Minute // an append waits so long for a node that can't be reached
	redialAfter   = 50 * time.Millisecond
	helloTimeout  = 5 * time.Second
	writeTimeout  = 10 * time.Second
	appendTimeout = 10 * time.Second
	installStep   = 30 * time.Second       // progress expected of a snapshot transfer
	installFinish = 10 * time.Minute       // the follower's fsync and Restore after the last byte
	lookEvery     = 100 * time.Millisecond // between looks at the free space, if somebody asks
	transferKeep  = 24 * time.Hour         // the log behind a snapshot is kept so long while it is sent,
	installedKeep = 30 * time.Second       // and so long after
	keepEvery     = time.Second            // between looks at what needs a snapshot
)
