package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// holder is an echo that says what it has.
type holder struct {
	*echo
	dir string
}

func (h holder) Held(name string) string { return filepath.Join(h.dir, name) }

// receiver serves one connection's transfer frames as a port does, and counts what comes.
type receiver struct {
	t     *testing.T
	x     *fetch
	bytes int
}

func newReceiver(t *testing.T, dir, held string) *receiver {
	s := &snapshots{dir: dir, fs: osFS{}, saved: func(uint64) {}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	x := &fetch{snapshots: s, arrived: map[string]int64{}, held: func(name string) string { return filepath.Join(held, name) }}
	x.aside = func(name string) (string, error) { return filepath.Join(dir, "aside-"+name), nil }
	return &receiver{t: t, x: x}
}

// run answers until the connection ends, or breaks it after so many bytes.
func (r *receiver) run(conn net.Conn, limit int) {
	defer conn.Close()
	p := &port{mux: &mux{wal: &wal{disk: newDisk(Options{FS: osFS{}, Dir: r.x.snapshots.dir}.withDefaults())}}}
	for {
		f, err := readFrame(conn)
		if err != nil {
			return
		}
		if f.kind == frameChunk {
			r.bytes += len(f.body) - 8
		}
		answer, err := p.receive(r.x, f, route{})
		if err != nil {
			answer = appendAnswer(nil, route{}, 1, nil, err)
		}
		if len(answer) > 0 {
			_, err = conn.Write(answer)
		}
		if err != nil || limit > 0 && r.bytes >= limit {
			_ = r.x.close()
			return
		}
	}
}

// send brings an attachment to a receiver and returns how many bytes of it went.
func send(t *testing.T, r *receiver, name string, content []byte, limit int) (int, error) {
	t.Helper()
	here, there := net.Pipe()
	done := make(chan struct{})
	r.bytes = 0
	go func() { defer close(done); r.run(there, limit) }()
	s := &sending{ctx: t.Context(), pace: &pacer{rate: 1 << 40}, conn: here}
	err := s.attachment(name, int64(len(content)), bytes.NewReader(content))
	_ = here.Close()
	<-done
	return r.bytes, err
}

func TestATransferGoesOnWhereItStopped(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 100_000) // 1.6 MB, seven chunks
	dir := t.TempDir()
	if _, err := send(t, newReceiver(t, dir, dir+"/none"), "a", content, 3*chunkBytes); err == nil {
		t.Fatal("the transfer was not broken")
	}
	r := newReceiver(t, dir, dir+"/none") // after a restart
	n, err := send(t, r, "a", content, 0)
	if err != nil || n != len(content)-3*chunkBytes {
		t.Errorf("second attempt sent %d bytes (%v), want the %d that were missing", n, err, len(content)-3*chunkBytes)
	}
	wantFile(t, filepath.Join(dir, fetchDir, "a"), content)
	if r.x.arrived["a"] != int64(len(content)) {
		t.Error("it did not arrive")
	}
}

func TestWhatTheFollowerHasIsNotSent(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	rotten := bytes.Clone(content)
	rotten[1000] ^= 1
	for _, c := range []struct {
		name string
		held []byte
		want int
	}{
		{"the same", content, 0},
		{"the beginning", content[:chunkBytes], len(content) - chunkBytes},
		{"more", append(bytes.Clone(content), "more"...), 0},
		{"a rotten one", rotten, len(content)},
		{"another beginning", rotten[:chunkBytes], len(content)},
		{"nothing", nil, len(content)},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, held := t.TempDir(), t.TempDir()
			if err := os.WriteFile(filepath.Join(held, "a"), c.held, 0o600); err != nil {
				t.Fatal(err)
			}
			n, err := send(t, newReceiver(t, dir, held), "a", content, 0)
			if err != nil || n != c.want {
				t.Errorf("sent %d bytes (%v), want %d", n, err, c.want)
			}
			wantFile(t, filepath.Join(dir, fetchDir, "a"), content)
			wantFile(t, filepath.Join(held, "a"), c.held) // it may be in use
			if c.name == "a rotten one" {
				wantFile(t, filepath.Join(dir, "aside-a"), rotten)
			}
		})
	}
}

func wantFile(t *testing.T, path string, want []byte) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes (%v), want %d others", path, len(got), err, len(want))
	}
}

func TestAnEmptyAttachmentArrives(t *testing.T) {
	dir := t.TempDir()
	if _, err := send(t, newReceiver(t, dir, dir+"/none"), "a", nil, 0); err != nil {
		t.Fatal(err)
	}
	wantFile(t, filepath.Join(dir, fetchDir, "a"), nil)
}

func TestAWrongSumIsRefusedAndForgotten(t *testing.T) {
	dir := t.TempDir()
	r := newReceiver(t, dir, dir+"/none")
	if _, _, err := r.x.offer(Attachment{Name: "a", Size: 3}); err != nil {
		t.Fatal(err)
	}
	if err := r.x.chunk(0, []byte("abc")); err != nil {
		t.Fatal(err)
	}
	if err := r.x.end([]byte{1, 2, 3, 4}); !errors.Is(err, errDiffers) {
		t.Errorf("end: %v, want errDiffers", err)
	}
	if _, err := os.Stat(filepath.Join(dir, fetchDir, "a")); !os.IsNotExist(err) {
		t.Errorf("the file is there: %v", err)
	}
}

func TestTransfersArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pacer{rate: 1 << 20}
		began := time.Now()
		for range 40 {
			if err := p.take(t.Context(), 256<<10); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took < 9*time.Second || took > 10*time.Second {
			t.Errorf("10 MiB at 1 MiB/s took %v", took)
		}
	})
}

// TestALaggingReplicaGetsOnlyWhatItLacks has a replica that knows an older snapshot's attachment catch up.
func TestALaggingReplicaGetsOnlyWhatItLacks(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	ids := c.ids()
	files := t.TempDir()
	content := bytes.Repeat([]byte("segment"), 200_000)
	if err := os.WriteFile(filepath.Join(files, "segment"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids[:2] {
		c.open(id, 1, ids)
		c.nodes[id].machines[1].attach = []Attachment{{Name: "segment", Path: filepath.Join(files, "segment"), Size: int64(len(content))}}
	}
	for i := range 20 {
		c.propose(1, fmt.Sprint(i))
	}
	lead := c.leader(1)
	if err := lead.groups[1].Snapshot(); err != nil {
		t.Fatal(err)
	}
	if err := lead.groups[1].log.DeleteRange(0, lead.groups[1].LastIndex()-1); err != nil {
		t.Fatal(err)
	}
	own := t.TempDir()
	if err := os.WriteFile(filepath.Join(own, "segment"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	n := c.nodes["node-3"]
	sm := newEcho()
	g, err := n.store.OpenGroup(1, holder{sm, own}, ids)
	if err != nil {
		t.Fatal(err)
	}
	n.groups[1], n.machines[1] = g, sm
	sm.wait(t, 20)
	same, _ := os.Stat(filepath.Join(own, "segment"))
	moved, err := os.Stat(filepath.Join(n.dir, "raft", "moved-segment"))
	if err != nil || !os.SameFile(same, moved) {
		t.Errorf("the replica's own file was not taken: %v", err)
	}
}

func FuzzTransferFrames(f *testing.F) {
	f.Add([]byte("12345678name"), uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, kind uint8) {
		_, _, _ = parseHeld(b)
		p := &port{mux: &mux{wal: &wal{disk: newDisk(Options{FS: newMemFS(), Dir: "d"}.withDefaults())}}}
		s := &snapshots{dir: "d", fs: newMemFS(), saved: func(uint64) {}}
		x := &fetch{snapshots: s, arrived: map[string]int64{}, held: func(string) string { return "" }}
		x.aside = func(string) (string, error) { return "aside", nil }
		_, _ = p.receive(x, peerFrame{kind: frameOffer, body: appendOffer(nil, route{}, 3, "a")[peerHeaderSize:]}, route{})
		_, _ = p.receive(x, peerFrame{kind: frameOffer + frameType(kind%5), body: b}, route{})
		_, _ = p.receive(x, peerFrame{kind: frameChunkEnd, body: appendSum(nil, route{}, crc32.Checksum(b, castagnoli))[peerHeaderSize:]}, route{})
	})
}

// TestASnapshotOfOwnDoesNotRemoveOneThatIsReceived has both under way at once, and the older end last.
func TestASnapshotOfOwnDoesNotRemoveOneThatIsReceived(t *testing.T) {
	s, err := openSnapshots(newMemFS(), "d", "d/raft/g00001", func(uint64) {})
	if err != nil {
		t.Fatal(err)
	}
	begin := func(index uint64) *snapshotSink {
		sink, err := s.Create(1, index, 1, raft.Configuration{}, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		return sink.(*snapshotSink)
	}
	own, received := begin(5), begin(9)
	stream := append(appendStreamHeader(nil, &streamHeader{stateBytes: 3, stateCRC: crc32.Checksum([]byte("abc"), castagnoli)}), "abc"...)
	if _, err := received.Write(stream); err != nil {
		t.Fatal(err)
	}
	third := begin(7)
	if err := errors.Join(third.persist(echoSnapshot{}), third.Close(), received.Close()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(own.persist(echoSnapshot{}), own.Close()); err == nil {
		t.Error("an older snapshot replaced a newer one")
	}
	again, err := openSnapshots(s.fs, "d", "d/raft/g00001", func(uint64) {})
	if err != nil || again.newest() == nil || again.newest().Index != 9 {
		t.Errorf("after a restart: %v, %+v, want the snapshot at 9", err, again)
	}
}

// The leader gives up at once when it can not read its own snapshot: the follower, which waits for the rest, has
// nothing to answer.
func TestASnapshotThatCanNotBePassedOnIsNotWaitedFor(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	go func() { _, _ = io.Copy(io.Discard, there) }() // takes all and answers nothing
	r := &snapshotReader{manifest: &manifest{Received: true}}
	p := &port{mux: &mux{}}
	done := make(chan error, 1)
	go func() {
		done <- p.install(here, "node-2", route{}, &raft.InstallSnapshotRequest{Size: 10}, &raft.InstallSnapshotResponse{}, r)
	}()
	select {
	case err := <-done:
		if err == nil {
			t.Error("a snapshot that can not be read was installed")
		}
	case <-time.After(10 * time.Second):
		t.Error("the leader waits for an answer that can not come")
	}
}
