package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/hashicorp/raft"
)

// Bytes between peers. Little endian. The dialling node sends a hello and then requests; the other sends answers.
//
//	hello   magic "PRFT" | version u8 | purpose u8 | node bytes u8 | node
//	frame   body bytes u32 | crc u32 (all that follows) | type u8 | 0 u8 | group u16 | request u64 |
//	        from u32 | to u32 (incarnations of the replicas) | body
//
// A connection for a snapshot carries its attachments, one install request, the state, and one answer back.
const (
	peerMagic       = 0x54465250
	peerVersion     = 3
	peerHeaderSize  = 28
	appendFixed     = 36
	peerEntryHeader = 29
)

// purpose says what a connection is for. Appends have one of their own, so that a large one does not hold up
// heartbeats and votes.
type purpose uint8

const (
	purposeControl purpose = 1
	purposeData    purpose = 2
	purposeInstall purpose = 3
)

// frameType is what a peer frame carries.
type frameType uint8

const (
	frameAppend            frameType = 1 // term, previous index and term, commit: u64 each | entries u32 | entries
	frameAppendAnswer      frameType = 2 // term u64 | last log u64 | flags u8
	frameVote              frameType = 3 // term, last index, last term: u64 each | flags u8
	frameVoteAnswer        frameType = 4 // term u64 | flags u8
	framePreVote           frameType = 5 // as frameVote
	framePreVoteAnswer     frameType = 6
	frameTimeoutNow        frameType = 7 // nothing
	frameTimeoutAnswer     frameType = 8 // nothing
	frameInstall           frameType = 9 // term, last index, last term, configuration index, size: u64 each | configuration
	frameInstallAnswer     frameType = 10
	frameRefused           frameType = 11 // text
	frameWho               frameType = 12 // nothing: which incarnation is your replica?
	frameReplaced          frameType = 13 // incarnation u32: answer to frameWho, and to a request for another one
	frameOffer             frameType = 14 // this and the next: see transfer.go
	frameHeld              frameType = 15
	frameChunk             frameType = 16
	frameChunkEnd          frameType = 17
	frameStored            frameType = 18
	flagSuccess                      = 1
	flagNoRetryBackoff               = 2
	flagLeadershipTransfer           = 1
)

var errFrame = errors.New("malformed peer frame")

type peerFrame struct {
	kind frameType
	route
	request uint64 // 0: no answer is wanted
	body    []byte
}

func appendHello(dst []byte, p purpose, node string) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, peerMagic)
	dst = append(dst, peerVersion, byte(p), byte(len(node)))
	return append(dst, node...)
}

func readHello(r io.Reader) (purpose, string, error) {
	var h [7]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, "", err
	}
	if binary.LittleEndian.Uint32(h[:]) != peerMagic {
		return 0, "", fmt.Errorf("%w: no hello", errFrame)
	}
	if h[4] != peerVersion {
		return 0, "", fmt.Errorf("%w: peer speaks version %d, this pushd version %d", ErrVersion, h[4], peerVersion)
	}
	if h[6] == 0 || h[6] > maxNodeIDBytes {
		return 0, "", fmt.Errorf("%w: node id of %d bytes", errFrame, h[6])
	}
	node := make([]byte, h[6])
	_, err := io.ReadFull(r, node)
	return purpose(h[5]), string(node), err
}

// beginFrame appends a frame header; endFrame fills it in when the body stands behind it.
func beginFrame(dst []byte, kind frameType, to route, request uint64) []byte {
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0, byte(kind), 0)
	dst = binary.LittleEndian.AppendUint16(dst, to.group)
	dst = binary.LittleEndian.AppendUint64(dst, request)
	dst = binary.LittleEndian.AppendUint32(dst, to.from)
	return binary.LittleEndian.AppendUint32(dst, to.to)
}

func endFrame(buf []byte, start int) []byte {
	binary.LittleEndian.PutUint32(buf[start:], uint32(len(buf)-start-peerHeaderSize))
	binary.LittleEndian.PutUint32(buf[start+4:], crc32.Checksum(buf[start+8:], castagnoli))
	return buf
}

// readFrame reads a frame into memory of its own, which entries then refer to.
func readFrame(r io.Reader) (peerFrame, error) {
	var h [peerHeaderSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return peerFrame{}, err
	}
	n := binary.LittleEndian.Uint32(h[:])
	if n > maxPeerFrameBytes {
		return peerFrame{}, fmt.Errorf("%w: %d bytes, at most %d are allowed", errFrame, n, maxPeerFrameBytes)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return peerFrame{}, err
	}
	if crc32.Update(crc32.Checksum(h[8:], castagnoli), castagnoli, body) != binary.LittleEndian.Uint32(h[4:]) {
		return peerFrame{}, fmt.Errorf("%w: fails its check", errFrame)
	}
	return peerFrame{
		kind: frameType(h[8]), request: binary.LittleEndian.Uint64(h[12:]), body: body,
		route: route{binary.LittleEndian.Uint16(h[10:]), binary.LittleEndian.Uint32(h[20:]), binary.LittleEndian.Uint32(h[24:])},
	}, nil
}

func appendAppend(dst []byte, to route, request uint64, q *raft.AppendEntriesRequest) []byte {
	start := len(dst)
	dst = beginFrame(dst, frameAppend, to, request)
	dst = binary.LittleEndian.AppendUint64(dst, q.Term)
	dst = binary.LittleEndian.AppendUint64(dst, q.PrevLogEntry)
	dst = binary.LittleEndian.AppendUint64(dst, q.PrevLogTerm)
	dst = binary.LittleEndian.AppendUint64(dst, q.LeaderCommitIndex)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(q.Entries)))
	for _, e := range q.Entries {
		dst = append(dst, byte(e.Type))
		dst = binary.LittleEndian.AppendUint64(dst, e.Index)
		dst = binary.LittleEndian.AppendUint64(dst, e.Term)
		dst = binary.LittleEndian.AppendUint64(dst, uint64(appendedAt(e)))
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(e.Data)))
		dst = append(dst, e.Data...)
	}
	return endFrame(dst, start)
}

func appendedAt(e *raft.Log) int64 {
	if e.AppendedAt.IsZero() {
		return 0
	}
	return e.AppendedAt.UnixNano()
}

func parseAppend(b []byte, q *raft.AppendEntriesRequest) error {
	if len(b) < appendFixed {
		return errFrame
	}
	q.Term = binary.LittleEndian.Uint64(b)
	q.PrevLogEntry = binary.LittleEndian.Uint64(b[8:])
	q.PrevLogTerm = binary.LittleEndian.Uint64(b[16:])
	q.LeaderCommitIndex = binary.LittleEndian.Uint64(b[24:])
	n := binary.LittleEndian.Uint32(b[32:])
	if n > maxAppendEntries {
		return fmt.Errorf("%w: %d entries, at most %d are allowed", errFrame, n, maxAppendEntries)
	}
	b = b[appendFixed:]
	for range n {
		if len(b) < peerEntryHeader {
			return errFrame
		}
		size := int64(binary.LittleEndian.Uint32(b[25:]))
		if size > int64(len(b)-peerEntryHeader) {
			return errFrame
		}
		e := &raft.Log{Type: raft.LogType(b[0]), Index: binary.LittleEndian.Uint64(b[1:]), Term: binary.LittleEndian.Uint64(b[9:])}
		if at := binary.LittleEndian.Uint64(b[17:]); at != 0 {
			e.AppendedAt = time.Unix(0, int64(at))
		}
		e.Data = b[peerEntryHeader : peerEntryHeader+size : peerEntryHeader+size]
		q.Entries = append(q.Entries, e)
		b = b[peerEntryHeader+size:]
	}
	return whole(b)
}

func whole(rest []byte) error {
	if len(rest) != 0 {
		return fmt.Errorf("%w: %d bytes too many", errFrame, len(rest))
	}
	return nil
}

func flag(set bool, bit byte) byte {
	if set {
		return bit
	}
	return 0
}

// appendNumbers appends a frame of numbers and flags.
func appendNumbers(dst []byte, kind frameType, to route, request uint64, flags byte, numbers ...uint64) []byte {
	start := len(dst)
	dst = beginFrame(dst, kind, to, request)
	for _, n := range numbers {
		dst = binary.LittleEndian.AppendUint64(dst, n)
	}
	return endFrame(append(dst, flags), start)
}

// parseNumbers reads the numbers of a frame and returns its flags.
func parseNumbers(b []byte, numbers ...*uint64) (flags byte, err error) {
	if len(b) != 8*len(numbers)+1 {
		return 0, errFrame
	}
	for i, n := range numbers {
		*n = binary.LittleEndian.Uint64(b[8*i:])
	}
	return b[len(b)-1], nil
}

func appendInstall(dst []byte, to route, q *raft.InstallSnapshotRequest) []byte {
	start := len(dst)
	dst = beginFrame(dst, frameInstall, to, 1)
	for _, n := range []uint64{q.Term, q.LastLogIndex, q.LastLogTerm, q.ConfigurationIndex, uint64(q.Size)} {
		dst = binary.LittleEndian.AppendUint64(dst, n)
	}
	return endFrame(append(dst, q.Configuration...), start)
}

func parseInstall(b []byte, q *raft.InstallSnapshotRequest) error {
	if len(b) < 40 {
		return errFrame
	}
	q.SnapshotVersion = raft.SnapshotVersionMax
	q.Term = binary.LittleEndian.Uint64(b)
	q.LastLogIndex = binary.LittleEndian.Uint64(b[8:])
	q.LastLogTerm = binary.LittleEndian.Uint64(b[16:])
	q.ConfigurationIndex = binary.LittleEndian.Uint64(b[24:])
	q.Size = int64(binary.LittleEndian.Uint64(b[32:]))
	q.Configuration = b[40:]
	if q.Size < 0 {
		return errFrame
	}
	return nil
}

// appendAnswer appends what a group answered to a request.
func appendAnswer(dst []byte, to route, request uint64, answer any, err error) []byte {
	if err != nil {
		start := len(dst)
		dst = beginFrame(dst, frameRefused, to, request)
		return endFrame(append(dst, err.Error()...), start)
	}
	switch a := answer.(type) {
	case *raft.AppendEntriesResponse:
		return appendNumbers(dst, frameAppendAnswer, to, request, flag(a.Success, flagSuccess)|flag(a.NoRetryBackoff, flagNoRetryBackoff), a.Term, a.LastLog)
	case *raft.RequestVoteResponse:
		return appendNumbers(dst, frameVoteAnswer, to, request, flag(a.Granted, flagSuccess), a.Term)
	case *raft.RequestPreVoteResponse:
		return appendNumbers(dst, framePreVoteAnswer, to, request, flag(a.Granted, flagSuccess), a.Term)
	case *raft.InstallSnapshotResponse:
		return appendNumbers(dst, frameInstallAnswer, to, request, flag(a.Success, flagSuccess), a.Term)
	default:
		return appendNumbers(dst, frameTimeoutAnswer, to, request, 0)
	}
}

// parseAnswer reads an answer into the response that the caller of the transport gave.
func parseAnswer(f peerFrame, header raft.RPCHeader, response any) (err error) {
	var flags byte
	switch a := response.(type) {
	case *raft.AppendEntriesResponse:
		flags, err = parseNumbers(f.body, &a.Term, &a.LastLog)
		a.RPCHeader, a.Success, a.NoRetryBackoff = header, flags&flagSuccess != 0, flags&flagNoRetryBackoff != 0
	case *raft.RequestVoteResponse:
		flags, err = parseNumbers(f.body, &a.Term)
		a.RPCHeader, a.Granted = header, flags&flagSuccess != 0
	case *raft.RequestPreVoteResponse:
		flags, err = parseNumbers(f.body, &a.Term)
		a.RPCHeader, a.Granted = header, flags&flagSuccess != 0
	case *raft.InstallSnapshotResponse:
		flags, err = parseNumbers(f.body, &a.Term)
		a.RPCHeader, a.Success = header, flags&flagSuccess != 0
	case *raft.TimeoutNowResponse:
		a.RPCHeader = header
	}
	if err == nil && f.kind != answerKind(response) {
		err = fmt.Errorf("%w: answer of type %d", errFrame, f.kind)
	}
	return err
}

func answerKind(response any) frameType {
	switch response.(type) {
	case *raft.AppendEntriesResponse:
		return frameAppendAnswer
	case *raft.RequestVoteResponse:
		return frameVoteAnswer
	case *raft.RequestPreVoteResponse:
		return framePreVoteAnswer
	case *raft.InstallSnapshotResponse:
		return frameInstallAnswer
	default:
		return frameTimeoutAnswer
	}
}

// appendIncarnation appends the answer that a node's replica has an incarnation.
func appendIncarnation(dst []byte, to route, request uint64) []byte {
	start := len(dst)
	dst = beginFrame(dst, frameReplaced, to, request)
	return endFrame(binary.LittleEndian.AppendUint32(dst, to.from), start)
}

func parseIncarnation(b []byte) (uint32, error) {
	if len(b) != 4 {
		return 0, errFrame
	}
	return binary.LittleEndian.Uint32(b), nil
}
