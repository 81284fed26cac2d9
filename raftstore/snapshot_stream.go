package raftstore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/raft"
)

// A snapshot on its way to a follower. Little endian:
//
//	magic "PSNP" | version u32 | header bytes u32 | header | crc u32 of the header | state
//	header      state bytes u64 | state crc u32 | attachments u32 | per attachment: size u64, name bytes u16, name
//
// The attachments have gone before: see transfer.go.
//
// All sizes stand before the data, so the size of the whole is exact, which hashicorp/raft insists on.
const (
	streamMagic    = 0x504e5350
	streamVersion  = 3
	streamPreamble = 12
)

type streamHeader struct {
	stateBytes  int64
	stateCRC    uint32
	attachments []Attachment // without paths
}

func appendStreamHeader(dst []byte, h *streamHeader) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, streamMagic)
	dst = binary.LittleEndian.AppendUint32(dst, streamVersion)
	at := len(dst)
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(h.stateBytes))
	dst = binary.LittleEndian.AppendUint32(dst, h.stateCRC)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(h.attachments)))
	for _, a := range h.attachments {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(a.Size))
		dst = binary.LittleEndian.AppendUint16(dst, uint16(len(a.Name)))
		dst = append(dst, a.Name...)
	}
	binary.LittleEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[at+4:], castagnoli))
}

// parseStreamPreamble returns the bytes of header and check that follow.
func parseStreamPreamble(b []byte) (int, error) {
	if len(b) < streamPreamble || binary.LittleEndian.Uint32(b) != streamMagic {
		return 0, fmt.Errorf("%w: not a snapshot stream", ErrDamaged)
	}
	if v := binary.LittleEndian.Uint32(b[4:]); v != streamVersion {
		return 0, fmt.Errorf("%w: snapshot stream has version %d, this pushd reads version %d", ErrVersion, v, streamVersion)
	}
	n := binary.LittleEndian.Uint32(b[8:])
	if n > maxStreamHeaderBytes {
		return 0, fmt.Errorf("%w: snapshot header of %d bytes, at most %d are allowed", ErrDamaged, n, maxStreamHeaderBytes)
	}
	return int(n) + 4, nil
}

func parseStreamHeader(b []byte) (*streamHeader, error) {
	damaged := fmt.Errorf("%w: snapshot header fails its check", ErrDamaged)
	if len(b) < 20 {
		return nil, damaged
	}
	b, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(b, castagnoli) != sum {
		return nil, damaged
	}
	h := &streamHeader{stateBytes: int64(binary.LittleEndian.Uint64(b)), stateCRC: binary.LittleEndian.Uint32(b[8:])}
	n := binary.LittleEndian.Uint32(b[12:])
	if h.stateBytes < 0 || h.stateBytes > maxStateBytes || n > maxAttachments {
		return nil, fmt.Errorf("%w: snapshot of %d state bytes and %d attachments is beyond the limits", ErrDamaged, h.stateBytes, n)
	}
	b = b[16:]
	for range n {
		if len(b) < 10 || len(b) < 10+int(binary.LittleEndian.Uint16(b[8:])) {
			return nil, damaged
		}
		end := 10 + int(binary.LittleEndian.Uint16(b[8:]))
		a := Attachment{Size: int64(binary.LittleEndian.Uint64(b)), Name: string(b[10:end])}
		if err := checkAttachment(a); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		h.attachments = append(h.attachments, a)
		b = b[end:]
	}
	return h, nil
}

func checkAttachment(a Attachment) error {
	if a.Name == "" || len(a.Name) > maxAttachmentName || a.Name == "." || a.Name == ".." || strings.ContainsAny(a.Name, "/\\\x00") {
		return fmt.Errorf("attachment name %q is not a plain file name", a.Name)
	}
	if a.Size < 0 {
		return fmt.Errorf("attachment %q has size %d", a.Name, a.Size)
	}
	return nil
}

// snapshotReader is an opened snapshot: the state for this replica's own machine, or the stream for a follower.
type snapshotReader struct {
	manifest *manifest
	staging  string // received attachments that the machine has not taken yet; "" if none
	store    *snapshots

	file     File         // the state
	files    []File       // attachments, pinned
	attached []Attachment // what they are
	parts    []io.Reader
	size     int64
}

// Open checks the state against its CRC before a byte of it can be used, and pins the attachments that still exist.
func (s *snapshots) Open(id string) (_ *raft.SnapshotMeta, _ io.ReadCloser, err error) {
	m := s.newest()
	if m == nil || m.ID != id {
		return nil, nil, fmt.Errorf("snapshot %s was replaced", id)
	}
	r := &snapshotReader{manifest: m, store: s}
	defer func() {
		if err != nil {
			_ = r.Close()
		}
	}()
	path := filepath.Join(s.dir, id+stateSuffix)
	if r.file, err = s.fs.OpenFile(path, os.O_RDONLY, 0); err != nil {
		return nil, nil, err
	}
	if err := checkState(r.file, m); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	if m.Received {
		there, err := exists(s.fs, s.dir, id+receivedSuffix)
		if there {
			r.staging = filepath.Join(s.dir, id+receivedSuffix)
		}
		return m.meta(m.StateBytes), r, err
	}
	if err := r.pin(); err != nil {
		return nil, nil, err
	}
	return m.meta(r.size), r, nil
}

func checkState(f File, m *manifest) error {
	sum := crc32.New(castagnoli)
	n, err := io.Copy(sum, io.NewSectionReader(f, 0, m.StateBytes+1))
	if err != nil {
		return err
	}
	if n != m.StateBytes || sum.Sum32() != m.StateCRC {
		return fmt.Errorf("%w: snapshot state fails its check", ErrDamaged)
	}
	return nil
}

// pin opens the attachments and lays out the stream.
func (r *snapshotReader) pin() error {
	h := &streamHeader{stateBytes: r.manifest.StateBytes, stateCRC: r.manifest.StateCRC}
	for _, a := range r.manifest.Attachments {
		f, err := r.store.fs.OpenFile(r.store.abs(a.Path), os.O_RDONLY, 0)
		if isNotExist(err) {
			continue // retention
		}
		if err != nil {
			return fmt.Errorf("attachment %q: %w", a.Name, err)
		}
		r.files = append(r.files, f)
		size, err := f.Size()
		if err == nil && size < a.Size {
			err = ErrDamaged
		}
		if err != nil {
			return fmt.Errorf("attachment %q has %d bytes, want %d: %w", a.Name, size, a.Size, err)
		}
		h.attachments = append(h.attachments, Attachment{Name: a.Name, Size: a.Size})
	}
	r.attached = h.attachments
	header := appendStreamHeader(nil, h)
	r.size = int64(len(header)) + r.manifest.StateBytes
	r.parts = []io.Reader{strings.NewReader(string(header)), r.state()}
	return nil
}

// state reads what the machine's Persist wrote.
func (r *snapshotReader) state() io.Reader {
	return io.NewSectionReader(r.file, 0, r.manifest.StateBytes)
}

// Read reads the stream for a follower.
func (r *snapshotReader) Read(p []byte) (int, error) {
	if r.manifest.Received {
		return 0, fmt.Errorf("snapshot %s was received and can not be passed on; this replica takes its own soon", r.manifest.ID)
	}
	for len(r.parts) > 0 {
		n, err := r.parts[0].Read(p)
		if err == io.EOF {
			r.parts = r.parts[1:]
			err = nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.EOF
}

func (r *snapshotReader) Close() error {
	if r.file != nil {
		_ = r.file.Close()
	}
	for _, f := range r.files {
		_ = f.Close()
	}
	return nil
}

// abs and rel keep paths in the manifest valid when the data directory is moved.
func (s *snapshots) abs(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(s.root, path)
}

func (s *snapshots) rel(path string) string {
	if r, err := filepath.Rel(s.root, path); err == nil && filepath.IsLocal(r) {
		return r
	}
	if a, err := filepath.Abs(path); err == nil {
		return a
	}
	return path
}
