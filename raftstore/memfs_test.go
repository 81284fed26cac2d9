package raftstore

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// memFS is a file system whose power can be cut: unsynced writes survive sector by sector, unsynced directory changes
// in order up to some point, both at random.
type memFS struct {
	mu          sync.Mutex
	names       map[string]*memInode  // as the process sees them
	disk        map[string]*memInode  // as they surely are on disk
	log         map[string][]memOp    // directory changes since its last SyncDir
	hook        func(op string) error // called before each write and sync, without the lock
	dead        bool                  // the power is gone: nothing succeeds any more
	free, total int64                 // space, if a test sets it
}

type memInode struct {
	data    []byte
	durable []byte
	dirty   [][2]int // unsynced writes, offset and end
}

// memOp is one atomic change of names.
type memOp struct{ set map[string]*memInode } // nil removes

const sector = 512

func newMemFS() *memFS {
	return &memFS{names: map[string]*memInode{}, disk: map[string]*memInode{}, log: map[string][]memOp{}}
}

func (m *memFS) call(op string) error {
	m.mu.Lock()
	hook := m.hook
	m.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(op)
}

func (m *memFS) setHook(hook func(op string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hook = hook
}

// change changes names in one step, which the sync of a directory makes durable.
func (m *memFS) change(dir string, set map[string]*memInode) {
	for name, n := range set {
		if n == nil {
			delete(m.names, name)
		} else {
			m.names[name] = n
		}
	}
	m.log[dir] = append(m.log[dir], memOp{set})
}

// moveLog has unsynced changes in a directory follow it to its new name, or forgets them with it.
func (m *memFS) moveLog(from, to string) {
	for dir, ops := range m.log {
		if dir != from && !strings.HasPrefix(dir, from+"/") {
			continue
		}
		delete(m.log, dir)
		for _, op := range ops {
			set := map[string]*memInode{}
			for name, n := range op.set {
				set[to+strings.TrimPrefix(name, from)] = n
			}
			if to != "" {
				m.log[to+dir[len(from):]] = append(m.log[to+dir[len(from):]], memOp{set})
			}
		}
	}
}

func (m *memFS) OpenFile(name string, flag int, _ fs.FileMode) (File, error) {
	if err := m.call("open"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.names[name]
	switch {
	case n == nil && flag&os.O_CREATE == 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	case n != nil && flag&os.O_EXCL != 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrExist}
	case n == nil || flag&os.O_TRUNC != 0:
		n = &memInode{}
		m.change(filepath.Dir(name), map[string]*memInode{name: n})
	}
	return &memFile{fs: m, node: n}, nil
}

func (m *memFS) MkdirAll(string, fs.FileMode) error { return nil }

func (m *memFS) ReadDir(dir string) ([]fs.DirEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := map[string]bool{}
	var out []fs.DirEntry
	for name := range m.names {
		rest, ok := strings.CutPrefix(name, dir+"/")
		if !ok {
			continue
		}
		base, _, isDir := strings.Cut(rest, "/")
		if !seen[base] {
			seen[base] = true
			out = append(out, memEntry{base, isDir})
		}
	}
	slices.SortFunc(out, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return out, nil
}

func (m *memFS) Rename(from, to string) error {
	if err := m.call("rename"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	set := map[string]*memInode{}
	for name, n := range m.names {
		if name == from || strings.HasPrefix(name, from+"/") {
			set[name], set[to+name[len(from):]] = nil, n
		}
	}
	m.moveLog(from, to)
	if len(set) > 0 {
		m.change(filepath.Dir(to), set)
		if filepath.Dir(from) != filepath.Dir(to) {
			m.log[filepath.Dir(from)] = append(m.log[filepath.Dir(from)], memOp{set})
		}
	}
	return nil
}

func (m *memFS) Link(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.names[from]
	if n == nil {
		return fs.ErrNotExist
	}
	if m.names[to] != nil {
		return fs.ErrExist
	}
	m.change(filepath.Dir(to), map[string]*memInode{to: n})
	return nil
}

func (m *memFS) Remove(name string) error { return m.RemoveAll(name) }

func (m *memFS) RemoveAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	set := map[string]*memInode{}
	for n := range m.names {
		if n == name || strings.HasPrefix(n, name+"/") {
			set[n] = nil
		}
	}
	m.moveLog(name, "")
	if len(set) > 0 {
		m.change(filepath.Dir(name), set)
	}
	return nil
}

func (m *memFS) SyncDir(dir string) error {
	if err := m.call("syncdir"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return errNoPower
	}
	for _, op := range m.log[dir] {
		applyOp(m.disk, op)
	}
	delete(m.log, dir)
	return nil
}

func applyOp(names map[string]*memInode, op memOp) {
	for name, n := range op.set {
		if n == nil {
			delete(names, name)
		} else {
			names[name] = n
		}
	}
}

var errNoPower = errors.New("the power is gone")

// cut ends all writing and returns what the power cut leaves.
func (m *memFS) cut(rng *rand.Rand) *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = true
	return m.image(rng)
}

// crash returns what a power cut now could leave, and goes on.
func (m *memFS) crash(rng *rand.Rand) *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.image(rng)
}

func (m *memFS) image(rng *rand.Rand) *memFS {
	names := map[string]*memInode{}
	maps.Copy(names, m.disk)
	for _, ops := range m.log {
		for _, op := range ops[:rng.IntN(len(ops)+1)] {
			applyOp(names, op)
		}
	}
	out := newMemFS()
	for name, n := range names {
		c := &memInode{durable: n.torn(rng)}
		c.data = bytes.Clone(c.durable)
		out.names[name], out.disk[name] = c, c
	}
	return out
}

// torn returns the durable bytes with some sectors of the unsynced writes.
func (n *memInode) torn(rng *rand.Rand) []byte {
	b := bytes.Clone(n.durable)
	for _, w := range n.dirty {
		for at := w[0]; at < w[1]; {
			end := min(w[1], (at/sector+1)*sector)
			if rng.IntN(2) == 0 {
				if len(b) < end {
					b = append(b, make([]byte, end-len(b))...)
				}
				copy(b[at:end], n.data[at:end])
			}
			at = end
		}
	}
	return b
}

type memFile struct {
	fs   *memFS
	node *memInode
	at   int64
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if off >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.at)
	f.at += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.fs.call("write"); err != nil {
		return 0, err
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.fs.dead {
		return 0, errNoPower
	}
	end := int(off) + len(p)
	if len(f.node.data) < end {
		f.node.data = append(f.node.data, make([]byte, end-len(f.node.data))...)
	}
	copy(f.node.data[off:], p)
	f.node.dirty = append(f.node.dirty, [2]int{int(off), end})
	return len(p), nil
}

func (f *memFile) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.at)
	f.at += int64(n)
	return n, err
}

func (f *memFile) Allocate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if n := int(size) - len(f.node.data); n > 0 {
		f.node.data = append(f.node.data, make([]byte, n)...)
		f.node.dirty = append(f.node.dirty, [2]int{len(f.node.data) - n, len(f.node.data)})
	}
	return nil
}

func (f *memFile) Sync() error {
	if err := f.fs.call("sync"); err != nil {
		return err
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.fs.dead {
		return errNoPower
	}
	f.node.durable = append(f.node.durable[:0], f.node.data...)
	f.node.dirty = nil
	return nil
}

func (f *memFile) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return int64(len(f.node.data)), nil
}

func (f *memFile) Close() error { return nil }

// Space is what a test says, or plenty.
func (m *memFS) Space(string) (free, total int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.total == 0 {
		return 1 << 40, 1 << 40, nil
	}
	return m.free, m.total, nil
}

type memEntry struct {
	name string
	dir  bool
}

func (e memEntry) Name() string               { return e.name }
func (e memEntry) IsDir() bool                { return e.dir }
func (e memEntry) Type() fs.FileMode          { return 0 }
func (e memEntry) Info() (fs.FileInfo, error) { return nil, errors.ErrUnsupported }
