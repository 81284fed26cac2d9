package raftstore

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"reflect"
	"testing"

	"github.com/hashicorp/raft"
)

// golden are the bytes of format version 2. A change here makes every log on disk unreadable.
var golden = []struct {
	name string
	make func() []byte
	hex  string
}{
	{
		"segment header", func() []byte { return appendSegmentHeader(nil, segmentHeader{number: 3, salt: 0x0102030405060708}) },
		"505553484457414c02000000000000000300000000000000080706050403020189ed942700000000",
	},
	{
		"frame", func() []byte { return sealFrame(append(make([]byte, frameHeaderSize), "abc"...), 7, 9) },
		"5046524d0300000009000000000000007f1627ce000000006162630000000000",
	},
	{
		"entry", func() []byte {
			return appendEntryRecord(nil, recordEntry, 5, &raft.Log{Index: 2, Term: 1, Data: []byte("hi")})
		},
		"6930b1c317000000010005000002000000000000000100000000000000000000006869",
	},
	{
		"cut", func() []byte { return appendIndexRecord(nil, recordSuffix, 5, 8) },
		"65c3073208000000030005000800000000000000",
	},
	{
		"key", func() []byte { return appendKeyValRecord(nil, 5, "k", []byte("v")) },
		"f38f0fd80300000005000500016b76",
	},
	{
		"state", func() []byte {
			return appendStateRecord(nil, 5, groupState{first: 4, entries: 2, kv: map[string][]byte{"k": []byte("v")}}, []string{"k"})
		},
		"f7bfeb71170000000600050004000000000000000200000000000000016b0100000076",
	},
	{
		"before", func() []byte { return appendRecord(nil, recordBefore, 0, appendGroups(nil, []uint16{1, 2})) },
		"117b9c56040000000800000001000200",
	},
	{
		"settled", func() []byte { return appendIndexRecord(nil, recordSettled, 0, 3, 4) },
		"af3605bb100000000900000003000000000000000400000000000000",
	},
	{
		"stream", func() []byte {
			return appendStreamHeader(nil, &streamHeader{stateBytes: 3, stateCRC: 4, attachments: []Attachment{{Name: "a", Size: 5}}})
		},
		"50534e50030000001b000000030000000000000004000000010000000500000000000000010061d00dde7b",
	},
	{
		"append", func() []byte {
			return appendAppend(nil, route{5, 7, 8}, 6, &raft.AppendEntriesRequest{Term: 1, PrevLogEntry: 2, PrevLogTerm: 3, LeaderCommitIndex: 4, Entries: []*raft.Log{command(3, 1, "hi")}})
		},
		"430000002745ecc5010005000600000000000000070000000800000001000000000000000200000000000000030000000000000004000000000000000100000000030000000000000001000000000000000000000000000000020000006869",
	},
	{
		"hello", func() []byte { return appendHello(nil, purposeData, "node") },
		"505246540302046e6f6465",
	},
	{
		"vote", func() []byte { return appendNumbers(nil, frameVote, route{1, 7, 8}, 2, 1, 3, 4, 5) },
		"19000000ade407ed030001000200000000000000070000000800000003000000000000000400000000000000050000000000000001",
	},
	{
		"install", func() []byte {
			return appendInstall(nil, route{1, 7, 8}, &raft.InstallSnapshotRequest{Term: 1, LastLogIndex: 2, LastLogTerm: 3, ConfigurationIndex: 4, Size: 5, Configuration: []byte("c")})
		},
		"2900000021399b3509000100010000000000000007000000080000000100000000000000020000000000000003000000000000000400000000000000050000000000000063",
	},
}

func TestFormatsAreStable(t *testing.T) {
	for _, g := range golden {
		if got := hex.EncodeToString(g.make()); got != g.hex {
			t.Errorf("%s\n got %s\nwant %s", g.name, got, g.hex)
		}
	}
}

func TestAManifestSurvivesAndAFlippedOneDoesNot(t *testing.T) {
	want := &manifest{
		ID: "i", Index: 3, Term: 2, Servers: []manifestServer{{"n", true}}, ConfigurationIndex: 1, StateBytes: 9, StateCRC: 8,
		Attachments: []Attachment{{"a", "p", 4}}, Received: true,
	}
	b, err := appendManifest(nil, want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseManifest(b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v (%v), want %+v", got, err, want)
	}
	for i := range b {
		flipped := bytes.Clone(b)
		flipped[i] ^= 1
		if _, err := parseManifest(flipped); err == nil {
			t.Errorf("byte %d flipped: no error", i)
		}
	}
}

func TestANewerSegmentIsRefusedInPlainWords(t *testing.T) {
	b := appendSegmentHeader(nil, segmentHeader{number: 1})
	b[8] = 9
	binary.LittleEndian.PutUint32(b[32:], crc32.Checksum(b[:32], castagnoli))
	_, err := parseSegmentHeader(b)
	if want := "log segment has version 9, this pushd reads version 2"; !errors.Is(err, ErrVersion) || !bytes.Contains([]byte(err.Error()), []byte(want)) {
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestAFrameOfAnEarlierUseNeverPasses(t *testing.T) {
	f := sealFrame(append(make([]byte, frameHeaderSize), "payload"...), 1, 5)
	if _, _, err := parseFrame(f, 1); err != nil {
		t.Fatal(err)
	}
	if _, _, err := parseFrame(f, 2); !errors.Is(err, errTorn) {
		t.Errorf("with another salt: %v, want errTorn", err)
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(sealFrame(append(make([]byte, frameHeaderSize), appendIndexRecord(nil, recordPrefix, 1, 2)...), 3, 4), uint64(3))
	f.Add([]byte{}, uint64(0))
	f.Fuzz(func(_ *testing.T, b []byte, salt uint64) {
		_, payload, err := parseFrame(b, salt)
		if err != nil {
			return
		}
		r := newRecovery(&wal{groups: map[uint16]*groupLog{}})
		_ = r.frame(&segment{}, 0, payload)
	})
}

// FuzzRecord replays records that pass their check, whatever they say.
func FuzzRecord(f *testing.F) {
	f.Add(byte(recordEntry), appendEntryRecord(nil, recordEntry, 1, command(1, 1, "x"))[recordHeaderSize:])
	f.Add(byte(recordCopy), appendEntryRecord(nil, recordCopy, 1, command(1, 1, "x"))[recordHeaderSize:])
	f.Add(byte(recordSuffix), make([]byte, 8))
	f.Add(byte(recordPrefix), []byte{1, 0, 0, 0, 0, 0, 0, 0})
	f.Add(byte(recordKeyVal), []byte("\x01kv"))
	f.Add(byte(recordState), appendStateRecord(nil, 1, groupState{first: 1, entries: 3, kv: map[string][]byte{"k": nil}}, []string{"k"})[recordHeaderSize:])
	f.Add(byte(recordDropped), []byte{})
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		if recordKind(kind) == recordState && len(body) >= 16 && body[10]|body[11]|body[12]|body[13]|body[14]|body[15] != 0 {
			t.Skip("large, though within the limit")
		}
		r := newRecovery(&wal{groups: map[uint16]*groupLog{}})
		payload := appendEntryRecord(nil, recordEntry, 1, command(1, 1, "x"))
		payload = appendRecord(payload, recordKind(kind), 1, body)
		payload = appendRecord(payload, recordKind(kind), 2, body)
		_ = r.frame(&segment{}, 0, payload)
	})
}

func FuzzPeerFrame(f *testing.F) {
	for _, g := range golden[9:] {
		f.Add(g.make())
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _, _ = readHello(bytes.NewReader(b))
		frame, err := readFrame(bytes.NewReader(b))
		if err != nil {
			if len(b) < peerHeaderSize {
				return
			}
			frame = peerFrame{kind: frameType(b[8]), body: b[peerHeaderSize:]} // past the check
		}
		_, _ = parseRequest(frame, header("n"))
		_ = parseInstall(frame.body, new(raft.InstallSnapshotRequest))
		for _, a := range []any{new(raft.AppendEntriesResponse), new(raft.RequestVoteResponse), new(raft.RequestPreVoteResponse), new(raft.InstallSnapshotResponse), new(raft.TimeoutNowResponse)} {
			_ = parseAnswer(frame, header("n"), a)
		}
	})
}

func FuzzSnapshotStream(f *testing.F) {
	f.Add(appendStreamHeader(nil, &streamHeader{attachments: []Attachment{{Name: "a", Size: 0}}}), uint8(3))
	f.Add([]byte("PSNP"), uint8(1))
	f.Fuzz(func(_ *testing.T, b []byte, piece uint8) {
		s := &snapshots{dir: "d", fs: newMemFS(), saved: func(uint64) {}}
		sink, err := newSnapshotSink(s, &manifest{ID: "i"})
		if err != nil {
			return
		}
		for len(b) > 0 {
			n := min(len(b), int(piece)+1)
			if _, err := sink.Write(b[:n]); err != nil {
				break
			}
			b = b[n:]
		}
		_ = sink.Close()
	})
}

func FuzzManifest(f *testing.F) {
	b, _ := appendManifest(nil, &manifest{ID: "i"})
	f.Add(b)
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = parseManifest(b) })
}

func TestEncodingAnAppendAllocatesNothing(t *testing.T) {
	q := &raft.AppendEntriesRequest{Entries: []*raft.Log{command(1, 1, "data")}}
	buf := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() { buf = appendAppend(buf[:0], route{group: 1}, 2, q) }); n != 0 {
		t.Errorf("appendAppend allocates %v times, want 0", n)
	}
	e := command(1, 1, "data")
	if n := testing.AllocsPerRun(100, func() { buf = appendEntryRecord(buf[:0], recordEntry, 1, e) }); n > 0 {
		t.Errorf("appendEntryRecord allocates %v times, want 0", n)
	}
}

func BenchmarkAppendEntryRecord(b *testing.B) {
	e, buf := command(1, 1, string(make([]byte, 64<<10))), make([]byte, 0, 128<<10)
	b.ReportAllocs()
	b.SetBytes(64 << 10)
	for b.Loop() {
		buf = appendEntryRecord(buf[:0], recordEntry, 1, e)
	}
}
