package raftstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/hashicorp/raft"
)

// A group's directory holds one snapshot:
//
//	<id>.state      what the machine's Persist wrote
//	<id>.snapshot   the manifest; the snapshot exists when this name does
//	<id>.received/  attachments that came from a leader, until the machine has moved them
//	fetch/          attachments on their way in, whole or in part
const (
	stateSuffix    = ".state"
	manifestSuffix = ".snapshot"
	receivedSuffix = ".received"
	manifestMagic  = "pushd-snapshot"
)

// manifest describes a snapshot. On disk it is a line "pushd-snapshot VERSION CRC", then JSON.
type manifest struct {
	ID                 string           `json:"id"`
	Index              uint64           `json:"index"`
	Term               uint64           `json:"term"`
	Servers            []manifestServer `json:"servers"`
	ConfigurationIndex uint64           `json:"configuration_index"`
	StateBytes         int64            `json:"state_bytes"`
	StateCRC           uint32           `json:"state_crc32c"`
	Attachments        []Attachment     `json:"attachments,omitempty"` // paths below Options.Dir are relative to it
	Received           bool             `json:"received,omitempty"`    // from a leader: where the machine keeps the attachments is not known here
}

type manifestServer struct {
	NodeID string `json:"node"`
	Voter  bool   `json:"voter"`
}

func appendManifest(dst []byte, m *manifest) ([]byte, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	dst = fmt.Appendf(dst, "%s %d %08x\n", manifestMagic, formatVersion, manifestSum(formatVersion, body))
	return append(dst, body...), nil
}

func manifestSum(version int, body []byte) uint32 {
	return crc32.Update(uint32(version), castagnoli, body)
}

func parseManifest(b []byte) (*manifest, error) {
	line, body, ok := bytes.Cut(b, []byte("\n"))
	var version int
	var sum uint32
	if _, err := fmt.Sscanf(string(line), manifestMagic+" %d %x", &version, &sum); !ok || err != nil {
		return nil, fmt.Errorf("%w: not a snapshot manifest", ErrDamaged)
	}
	// Version 1 had no check on its number.
	if manifestSum(version, body) != sum && (version != 1 || crc32.Checksum(body, castagnoli) != sum) {
		return nil, fmt.Errorf("%w: snapshot manifest fails its check", ErrDamaged)
	}
	if version != formatVersion {
		return nil, fmt.Errorf("%w: snapshot has version %d, this pushd reads version %d", ErrVersion, version, formatVersion)
	}
	m := new(manifest)
	if err := json.Unmarshal(body, m); err != nil {
		return nil, fmt.Errorf("%w: snapshot manifest: %w", ErrDamaged, err)
	}
	return m, nil
}

func (m *manifest) configuration() raft.Configuration {
	var c raft.Configuration
	for _, s := range m.Servers {
		suffrage := raft.Nonvoter
		if s.Voter {
			suffrage = raft.Voter
		}
		c.Servers = append(c.Servers, raft.Server{Suffrage: suffrage, ID: raft.ServerID(s.NodeID), Address: raft.ServerAddress(s.NodeID)})
	}
	return c
}

func manifestServers(c raft.Configuration) []manifestServer {
	var servers []manifestServer
	for _, s := range c.Servers {
		servers = append(servers, manifestServer{NodeID: string(s.ID), Voter: s.Suffrage == raft.Voter})
	}
	return servers
}

func (m *manifest) meta(size int64) *raft.SnapshotMeta {
	return &raft.SnapshotMeta{
		Version: raft.SnapshotVersionMax, ID: m.ID, Index: m.Index, Term: m.Term,
		Configuration: m.configuration(), ConfigurationIndex: m.ConfigurationIndex, Size: size,
	}
}

// snapshots is a group's raft.SnapshotStore. It keeps the newest snapshot only: the log before it is gone, so an
// older one would be of no use.
type snapshots struct {
	root  string // Options.Dir
	dir   string
	fs    FS
	saved func(index uint64) // called when a snapshot is durable

	fetching   sync.Mutex // held while attachments are received; never waited for
	committing sync.Mutex // held by commit: the machine's own snapshot and a received one may come at once

	mu       sync.Mutex       // guards what follows
	arrived  map[string]int64 // attachments that came for the next received snapshot: name, size
	current  *manifest        // nil if there is none
	sequence int              // makes ids differ
	making   map[string]bool  // ids of snapshots under way
}

// openSnapshots reads the newest snapshot of a group and removes what a crash left of unfinished ones.
func openSnapshots(fsys FS, root, dir string, saved func(uint64)) (*snapshots, error) {
	s := &snapshots{root: root, dir: dir, fs: fsys, saved: saved}
	if err := fsys.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create snapshot directory: %w", err)
	}
	if err := fsys.SyncDir(filepath.Dir(dir)); err != nil { // or the snapshots go with it
		return nil, err
	}
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), manifestSuffix) {
			continue
		}
		m, err := s.read(e.Name())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, e.Name()), err)
		}
		if s.current == nil || s.current.Index < m.Index || s.current.Index == m.Index && s.current.ID < m.ID {
			s.current = m
		}
	}
	if err := s.verify(); err != nil {
		return nil, err
	}
	return s, s.clean()
}

// verify makes sure that the newest snapshot can be restored, before hashicorp/raft finds it can not and says little.
func (s *snapshots) verify() error {
	if s.current == nil {
		return nil
	}
	path := filepath.Join(s.dir, s.current.ID+stateSuffix)
	f, err := s.fs.OpenFile(path, os.O_RDONLY, 0)
	if isNotExist(err) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := checkState(f, s.current); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func (s *snapshots) read(name string) (*manifest, error) {
	b, err := readFile(s.fs, filepath.Join(s.dir, name))
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(b)
	if err == nil && m.ID+manifestSuffix != name {
		err = fmt.Errorf("%w: manifest is of snapshot %s", ErrDamaged, m.ID)
	}
	return m, err
}

func readFile(fsys FS, path string) ([]byte, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxManifestBytes))
}

// clean removes everything that does not belong to the current snapshot, manifests first.
func (s *snapshots) clean() error {
	entries, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, manifests := range []bool{true, false} {
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), manifestSuffix) != manifests {
				continue
			}
			if s.wanted(e.Name()) {
				continue
			}
			if err := s.fs.RemoveAll(filepath.Join(s.dir, e.Name())); err != nil {
				return err
			}
		}
		if err := s.fs.SyncDir(s.dir); err != nil {
			return err
		}
	}
	return nil
}

// expect says which attachments have come for the snapshot that is received next.
func (s *snapshots) expect(arrived map[string]int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.arrived = arrived
}

func (s *snapshots) hasArrived(name string) (size int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	size, ok = s.arrived[name]
	return size, ok
}

// wanted reports whether a name in the directory belongs to the current snapshot, to one under way, or to a transfer, which
// goes on where it stopped.
func (s *snapshots) wanted(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, _, _ := strings.Cut(name, ".")
	return name == fetchDir || s.making[id] || s.current != nil && id == s.current.ID && !strings.HasSuffix(name, ".tmp")
}

// made says that a snapshot is no longer under way.
func (s *snapshots) made(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.making, id)
}

// List returns the newest snapshot.
func (s *snapshots) List() ([]*raft.SnapshotMeta, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return nil, nil
	}
	return []*raft.SnapshotMeta{s.current.meta(0)}, nil
}

// newest returns the manifest of the newest snapshot, nil if there is none.
func (s *snapshots) newest() *manifest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// Create begins a snapshot: the machine's own, or one that a leader sends.
func (s *snapshots) Create(_ raft.SnapshotVersion, index, term uint64, c raft.Configuration, configurationIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	s.mu.Lock()
	s.sequence++
	id := fmt.Sprintf("%016x-%016x-%04d", index, term, s.sequence)
	if s.current != nil && s.current.ID >= id && s.current.Index == index {
		// Restarted, and the same index again: sort behind what is there.
		s.sequence += 1 + sequenceOf(s.current.ID)
		id = fmt.Sprintf("%016x-%016x-%04d", index, term, s.sequence)
	}
	if s.making == nil {
		s.making = map[string]bool{}
	}
	s.making[id] = true
	s.mu.Unlock()
	m := &manifest{ID: id, Index: index, Term: term, Servers: manifestServers(c), ConfigurationIndex: configurationIndex}
	return newSnapshotSink(s, m)
}

func sequenceOf(id string) int {
	var n int
	_, _ = fmt.Sscanf(id[strings.LastIndexByte(id, '-')+1:], "%d", &n)
	return n
}

// commit makes the snapshot the current one and removes the one before.
func (s *snapshots) commit(m *manifest) error {
	s.committing.Lock()
	defer s.committing.Unlock()
	defer s.made(m.ID)
	if now := s.newest(); now != nil && now.Index > m.Index {
		s.made(m.ID)
		return errors.Join(fmt.Errorf("snapshot %s came too late, %s is newer", m.ID, now.ID), s.clean())
	}
	b, err := appendManifest(nil, m)
	if err != nil {
		return err
	}
	path := filepath.Join(s.dir, m.ID+manifestSuffix)
	if err := writeFileSync(s.fs, path+".tmp", b); err != nil {
		return err
	}
	if err := s.fs.Rename(path+".tmp", path); err != nil {
		return err
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return err
	}
	s.mu.Lock()
	s.current = m
	s.mu.Unlock()
	s.saved(m.Index)
	if m.Received || s.fetching.TryLock() {
		err = s.fs.RemoveAll(filepath.Join(s.dir, fetchDir))
		if !m.Received {
			s.fetching.Unlock()
		}
	}
	return errors.Join(err, s.clean())
}

func writeFileSync(fsys FS, path string, b []byte) error {
	f, err := fsys.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		_ = f.Close()
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := f.Sync(); err != nil {
		_ = f.Close()
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return f.Close()
}

// restored removes the staging directory that the machine has emptied.
func (s *snapshots) restored(staging string) error {
	if err := s.fs.RemoveAll(staging); err != nil {
		return err
	}
	return s.fs.SyncDir(s.dir)
}
