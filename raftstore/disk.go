package raftstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"
)

const reserveName = "reserve.bin"

// room says how much of the disk is left.
type room int32

const (
	roomEnough room = iota
	roomLow         // a leader takes no new events: what it has can still be applied, snapshotted and trimmed
	roomNone        // a follower takes no commands either; votes and configurations always find room in the log
)

// disk watches the free space under a store. It keeps a file as large as a log segment in reserve, so that the log can
// go on for votes when something else has filled the disk.
type disk struct {
	fs        FS
	dir       string
	minFree   int64 // Options.MinFree
	reserve   int64
	tell      func(now room, free, least int64)
	looked    atomic.Int64 // unix nanoseconds
	state     atomic.Int32
	free      atomic.Int64
	reserving atomic.Bool // the file is there
}

func newDisk(o Options) *disk {
	d := &disk{fs: o.FS, dir: o.Dir, minFree: o.MinFree, reserve: o.SegmentBytes}
	d.tell = func(now room, free, least int64) {
		switch now {
		case roomEnough:
			o.Log.Info("the disk has room again: events are taken", "free", free, "dir", d.dir)
		case roomLow:
			o.Log.Error("the disk is nearly full: this node takes no new events until there is room; readers are served", "free", free, "least", least, "dir", d.dir)
		case roomNone:
			o.Log.Error("the disk is full: this node only votes until there is room; readers are served", "free", free, "least", least/noRoomPart, "dir", d.dir)
		}
	}
	there, err := exists(d.fs, d.dir, reserveName)
	d.reserving.Store(err == nil && there)
	return d
}

// least returns below how many free bytes no events are taken.
func (d *disk) least(total int64) int64 {
	if d.minFree > 0 {
		return d.minFree
	}
	return min(total/10, defaultMinFree)
}

// look measures the free space. A file system that can not tell is taken to have enough.
func (d *disk) look(now time.Time) room {
	d.looked.Store(now.UnixNano())
	free, total, err := d.fs.Space(d.dir)
	if err != nil {
		return roomEnough
	}
	least := d.least(total)
	before, next := room(d.state.Load()), roomEnough
	switch {
	case free < least/noRoomPart:
		next = roomNone
	case free < least, before != roomEnough && free < least+least/10: // not to and fro
		next = roomLow
	}
	d.free.Store(free)
	if d.state.CompareAndSwap(int32(before), int32(next)) && before != next {
		d.tell(next, free, least)
	}
	if next == roomEnough && !d.reserving.Load() && free-d.reserve > least+least/10 {
		d.keepReserve()
	}
	return next
}

// room returns how much is left, as of a moment ago.
func (d *disk) room() room {
	now := time.Now()
	if now.UnixNano()-d.looked.Load() > int64(lookEvery) {
		return d.look(now)
	}
	return room(d.state.Load())
}

// refusal is why a command is not taken when there is no more room than this, nil if it is.
func (d *disk) refusal(at room) error {
	if now := d.room(); now < at {
		return nil
	}
	return fmt.Errorf("%w: %d MiB are left under %s", ErrDiskFull, d.free.Load()>>20, d.dir)
}

func (d *disk) keepReserve() {
	path := filepath.Join(d.dir, reserveName)
	f, err := d.fs.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return
	}
	if err := errors.Join(f.Allocate(d.reserve), f.Close()); err != nil {
		_ = d.fs.Remove(path)
		return
	}
	d.reserving.Store(true)
}

// spend gives the reserve up if the error is a full disk, and says whether that may have helped.
func (d *disk) spend(err error) bool {
	full := errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
	return full && d.reserving.CompareAndSwap(true, false) && d.fs.Remove(filepath.Join(d.dir, reserveName)) == nil
}

// Writable returns nil unless the disk is so full that no new commands should be proposed. Groups may still be changed,
// led and read.
func (s *Store) Writable() error { return s.wal.disk.refusal(roomLow) }
