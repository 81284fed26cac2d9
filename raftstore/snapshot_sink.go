package raftstore

import (
	"bufio"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
)

// snapshotSink is a snapshot in the making. The machine's own comes through persist, a leader's as a stream through
// Write; each is checked as it arrives and exists only once Close has made it durable.
type snapshotSink struct {
	own      Snapshot // the machine's, nil for one that was received
	store    *snapshots
	manifest *manifest
	state    File
	header   *streamHeader // of the stream
	phase    sinkPhase
	pending  []byte // bytes of a part that is not complete yet
	want     int    // bytes that make it complete
	left     int64  // of the state
	done     bool
}

type sinkPhase int

const (
	sinkPreamble sinkPhase = iota
	sinkHeader
	sinkState
	sinkComplete
)

func newSnapshotSink(s *snapshots, m *manifest) (*snapshotSink, error) {
	f, err := s.fs.OpenFile(filepath.Join(s.dir, m.ID+stateSuffix), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return &snapshotSink{store: s, manifest: m, state: f, want: streamPreamble}, nil
}

func (s *snapshotSink) ID() string { return s.manifest.ID }

// persist writes the machine's own snapshot.
func (s *snapshotSink) persist(snap Snapshot) error {
	w := bufio.NewWriterSize(writerFunc(s.writeState), 64<<10)
	if err := snap.Persist(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, a := range snap.Attachments() {
		if err := checkAttachment(a); err != nil {
			return err
		}
		a.Path = s.store.rel(a.Path)
		s.manifest.Attachments = append(s.manifest.Attachments, a)
	}
	if len(s.manifest.Attachments) > maxAttachments {
		return fmt.Errorf("snapshot has %d attachments, at most %d are allowed", len(s.manifest.Attachments), maxAttachments)
	}
	s.phase, s.own = sinkComplete, snap
	return nil
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func (s *snapshotSink) writeState(p []byte) (int, error) {
	if s.manifest.StateBytes+int64(len(p)) > maxStateBytes {
		return 0, fmt.Errorf("snapshot state is beyond %d bytes", int64(maxStateBytes))
	}
	n, err := s.state.Write(p)
	s.manifest.StateBytes += int64(n)
	s.manifest.StateCRC = crc32.Update(s.manifest.StateCRC, castagnoli, p[:n])
	return n, err
}

// Write takes a piece of a leader's stream.
func (s *snapshotSink) Write(p []byte) (int, error) {
	total := len(p)
	for {
		n, err := s.step(p)
		if err != nil {
			return total - len(p) + n, err
		}
		if p = p[n:]; len(p) == 0 && !s.immediate() {
			return total, nil
		}
	}
}

// immediate reports whether the phase needs no bytes to end.
func (s *snapshotSink) immediate() bool { return s.phase == sinkState && s.left == 0 }

// step takes bytes for the phase under way and returns how many.
func (s *snapshotSink) step(p []byte) (int, error) {
	switch s.phase {
	case sinkPreamble, sinkHeader:
		n := min(len(p), s.want-len(s.pending))
		s.pending = append(s.pending, p[:n]...)
		if len(s.pending) < s.want {
			return n, nil
		}
		b := s.pending
		s.pending = nil
		return n, s.complete(b)
	case sinkState:
		n, err := s.writeState(p[:min(int64(len(p)), s.left)])
		if s.left -= int64(n); err != nil || s.left > 0 {
			return n, err
		}
		if s.manifest.StateCRC != s.header.stateCRC {
			return n, fmt.Errorf("%w: received snapshot state fails its check", ErrDamaged)
		}
		s.phase = sinkComplete
		return n, nil
	}
	return 0, fmt.Errorf("%w: %d bytes behind the end of a snapshot", ErrDamaged, len(p))
}

// complete handles a part of fixed size.
func (s *snapshotSink) complete(b []byte) (err error) {
	if s.phase == sinkPreamble {
		s.phase = sinkHeader
		s.want, err = parseStreamPreamble(b)
		return err
	}
	if s.header, err = parseStreamHeader(b); err != nil {
		return err
	}
	for _, a := range s.header.attachments {
		if size, ok := s.store.hasArrived(a.Name); !ok || size != a.Size {
			return fmt.Errorf("attachment %q did not come before its snapshot", a.Name)
		}
	}
	s.manifest.Received = true
	s.phase, s.left = sinkState, s.header.stateBytes
	return nil
}

func (s *snapshotSink) staging() string {
	return filepath.Join(s.store.dir, s.manifest.ID+receivedSuffix)
}

// takeAttachments moves what has come into the snapshot.
func (s *snapshotSink) takeAttachments() error {
	fsys, from := s.store.fs, filepath.Join(s.store.dir, fetchDir)
	if err := fsys.MkdirAll(s.staging(), 0o700); err != nil {
		return err
	}
	for _, a := range s.header.attachments {
		if err := fsys.Rename(filepath.Join(from, a.Name), filepath.Join(s.staging(), a.Name)); err != nil {
			return err
		}
	}
	if len(s.header.attachments) > 0 {
		if err := fsys.SyncDir(from); err != nil {
			return err
		}
	}
	return fsys.SyncDir(s.staging())
}

// Close makes the snapshot durable and current.
func (s *snapshotSink) Close() error {
	if s.done {
		return nil
	}
	if s.phase != sinkComplete {
		return errors.Join(fmt.Errorf("snapshot %s: %w", s.manifest.ID, io.ErrUnexpectedEOF), s.Cancel())
	}
	s.done = true
	defer s.store.made(s.manifest.ID)
	if err := s.state.Sync(); err != nil {
		return errors.Join(err, s.state.Close())
	}
	if err := s.state.Close(); err != nil {
		return err
	}
	if s.manifest.Received {
		if err := s.takeAttachments(); err != nil {
			return err
		}
	}
	err := s.store.commit(s.manifest)
	if err == nil && s.own != nil {
		s.own.Committed()
	}
	return err
}

// Cancel removes what was written.
func (s *snapshotSink) Cancel() error {
	if s.done {
		return nil
	}
	s.done = true
	defer s.store.made(s.manifest.ID)
	_ = s.state.Close()
	return errors.Join(
		s.store.fs.Remove(filepath.Join(s.store.dir, s.manifest.ID+stateSuffix)),
		s.store.fs.RemoveAll(s.staging()),
	)
}
