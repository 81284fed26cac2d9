package broker

import "github.com/pushd/pushd/protocol"

// topic is what a partition knows of one topic. Offsets of an epoch are dense,
// so the retained events are first to last.
type topic struct {
	name    string
	number  uint32 // local to this replica's run
	epoch   uint64 // position of the event that made the topic; 0: only a reader waits for it
	first   uint64 // offset of the oldest retained event; last+1 if none is
	last    uint64
	bytes   uint64 // of retained payloads and metadata, as stored
	newest  uint64 // position of the last event
	gone    uint64 // position of the last event that retention removed; 0: none
	deleted uint64 // position of its deletion; 0: it exists

	// old are the epochs that were deleted, for readers that had not seen all of them; oldest first.
	old []oldEpoch

	kept   limits           // what its policy lets it keep; local
	keptBy *protocol.Policy // the policies kept was taken from: the address of the first
}

// oldEpoch is what is remembered of a deleted epoch.
type oldEpoch struct {
	epoch, last, newest uint64
}

func (t *topic) exists() bool { return t.epoch != 0 && t.deleted == 0 }

// lostUpTo is the position of the topic's last event that can't be read any
// more, in whatever epoch.
func (t *topic) lostUpTo() uint64 {
	upTo := max(t.gone, t.deleted)
	if n := len(t.old); n > 0 {
		upTo = max(upTo, t.old[n-1].newest)
	}
	return upTo
}

func (t *topic) events() uint64 { return t.last + 1 - t.first }
