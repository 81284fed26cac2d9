package raftstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Keys that hashicorp/raft stores.
const (
	keyCurrentTerm  = "CurrentTerm"
	keyLastVoteTerm = "LastVoteTerm"
)

// Set stores a value and waits for the disk. An unchanged value is on disk already, or on its way before this call.
//
// It never returns an error: hashicorp/raft panics on one. When the store has failed it blocks until the transport is
// closed, so that no vote can leave that is not on disk.
func (l *groupLog) Set(key, val []byte) error {
	_ = l.wal.wait(l.put(string(key), val))
	return nil
}

// SetUint64 is Set for a number. The term of a vote does not wait: hashicorp/raft sets the candidate right after it,
// and the log is ordered.
func (l *groupLog) SetUint64(key []byte, val uint64) error {
	lsn := l.put(string(key), binary.LittleEndian.AppendUint64(nil, val))
	if string(key) != keyLastVoteTerm {
		_ = l.wal.wait(lsn)
	}
	return nil
}

// put changes the value in memory and in the pending frame, and returns the frame to wait for.
func (l *groupLog) put(key string, val []byte) uint64 {
	l.mu.Lock()
	old, ok := l.kv[key]
	if !ok || !bytes.Equal(old, val) {
		val = bytes.Clone(val)
		l.kv[key] = val
		l.lastLSN = l.wal.addKeyVal(l, key, val)
	}
	lsn := l.lastLSN
	l.mu.Unlock()
	l.wal.kick()
	return lsn
}

// Get returns a value, empty if the key was never set.
func (l *groupLog) Get(key []byte) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kv[string(key)], nil
}

// GetUint64 returns a number, 0 if the key was never set.
func (l *groupLog) GetUint64(key []byte) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	val, ok := l.kv[string(key)]
	if !ok {
		return 0, nil
	}
	if len(val) != 8 {
		return 0, fmt.Errorf("value of %q has %d bytes, want 8", key, len(val))
	}
	return binary.LittleEndian.Uint64(val), nil
}
