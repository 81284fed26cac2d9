package raftstore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
)

// fetchDir is in a group's directory and holds attachments on their way in. It survives a restart.
const fetchDir = "fetch"

// Holder is a StateMachine that keeps attachments: what it has of one need not be sent again.
type Holder interface {
	// Held returns where the machine keeps the attachment of that name, if it does. The file is only read or linked.
	Held(name string) (path string)
}

// fetch is a follower's end of a transfer. One goroutine owns it.
type fetch struct {
	snapshots *snapshots
	held      func(name string) string
	aside     func(name string) (string, error) // a place in the quarantine

	now     Attachment
	file    File // nil between attachments, and while nothing of this one is written
	have    int64
	sum     uint32
	linked  bool             // what there is of the attachment is the machine's own file
	dirty   int64            // bytes since the last sync
	arrived map[string]int64 // complete and checked: name, size
}

func (x *fetch) path() string { return filepath.Join(x.snapshots.dir, fetchDir, x.now.Name) }

// offer finds what there is of an attachment.
func (x *fetch) offer(a Attachment) (have int64, sum uint32, err error) {
	if err := x.close(); err != nil {
		return 0, 0, err
	}
	x.now, x.have, x.sum, x.linked, x.dirty = a, 0, 0, false, 0
	if err := x.snapshots.fs.MkdirAll(filepath.Join(x.snapshots.dir, fetchDir), 0o700); err != nil {
		return 0, 0, err
	}
	if x.have, err = x.sizeOf(x.path()); err != nil || x.have > a.Size {
		return x.nothing(err)
	}
	if x.have == 0 {
		if err := x.takeHeld(); err != nil {
			return x.nothing(err)
		}
	}
	if x.have == 0 {
		return 0, 0, nil
	}
	f, err := x.snapshots.fs.OpenFile(x.path(), os.O_RDONLY, 0)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	x.sum, err = crcOf(f, x.have)
	return x.have, x.sum, err
}

func (x *fetch) nothing(err error) (int64, uint32, error) {
	x.have, x.sum = 0, 0
	return 0, 0, err
}

func (x *fetch) sizeOf(path string) (int64, error) {
	f, err := x.snapshots.fs.OpenFile(path, os.O_RDONLY, 0)
	if isNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.Size()
}

// takeHeld takes what the machine has: a whole file by a link, a shorter or longer one, which may still change, by a copy.
func (x *fetch) takeHeld() error {
	path := x.held(x.now.Name)
	if path == "" {
		return nil
	}
	size, err := x.sizeOf(path)
	if err != nil || size == 0 {
		return err
	}
	_ = x.snapshots.fs.Remove(x.path())
	if size == x.now.Size && x.snapshots.fs.Link(path, x.path()) == nil {
		x.have, x.linked = size, true
		return nil
	}
	in, err := x.snapshots.fs.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := x.create(); err != nil {
		return err
	}
	x.have, err = io.Copy(struct{ io.Writer }{x.file}, io.NewSectionReader(in, 0, min(size, x.now.Size)))
	return cmpErr(err, x.close())
}

// create begins the attachment's file with nothing. What the machine has under that name stays as it is.
func (x *fetch) create() (err error) {
	_ = x.snapshots.fs.Remove(x.path())
	x.file, err = x.snapshots.fs.OpenFile(x.path(), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	return err
}

// chunk writes bytes that follow what there is, or begin it anew.
func (x *fetch) chunk(at int64, data []byte) error {
	switch {
	case at == 0 && (x.have > 0 || x.file == nil):
		if x.linked {
			x.keepRotten()
		}
		if err := cmpErr(x.close(), x.create()); err != nil {
			return err
		}
		x.have, x.sum, x.linked = 0, 0, false
	case at != x.have || at+int64(len(data)) > x.now.Size:
		return fmt.Errorf("%w: bytes at %d where %d of %d are there", errFrame, at, x.have, x.now.Size)
	case x.file == nil:
		f, err := x.snapshots.fs.OpenFile(x.path(), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		x.file = f
	}
	if at+int64(len(data)) > x.now.Size {
		return fmt.Errorf("%w: more than %d bytes", errFrame, x.now.Size)
	}
	if _, err := x.file.WriteAt(data, at); err != nil {
		return err
	}
	x.have += int64(len(data))
	x.sum = crc32.Update(x.sum, castagnoli, data)
	if x.dirty += int64(len(data)); x.dirty >= transferSyncBytes { // little by little: the log's syncs wait behind it
		x.dirty = 0
		return x.file.Sync()
	}
	return nil
}

// keepRotten keeps a file of the machine's own that differs from the leader's, for the operator.
func (x *fetch) keepRotten() {
	if to, err := x.aside(x.now.Name); err == nil {
		_ = x.snapshots.fs.Link(x.path(), to)
	}
}

// end checks the whole attachment and makes it durable.
func (x *fetch) end(sum []byte) error {
	if len(sum) != 4 {
		return errFrame
	}
	if x.have == 0 && x.file == nil {
		if err := x.create(); err != nil { // an empty file
			return err
		}
	}
	if x.have != x.now.Size || x.sum != binary.LittleEndian.Uint32(sum) {
		_ = x.close()
		_ = x.snapshots.fs.Remove(x.path())
		return fmt.Errorf("%w: %q", errDiffers, x.now.Name)
	}
	if x.file == nil {
		f, err := x.snapshots.fs.OpenFile(x.path(), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		x.file = f
	}
	if err := x.file.Sync(); err != nil {
		return err
	}
	x.arrived[x.now.Name] = x.now.Size
	return x.close()
}

func (x *fetch) close() error {
	if x.file == nil {
		return nil
	}
	f := x.file
	x.file = nil
	return f.Close()
}
