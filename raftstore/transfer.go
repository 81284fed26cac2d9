package raftstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"sync"
	"time"
)

// A snapshot's attachments go to the follower before the snapshot itself, on the same connection, one after the other:
//
//	leader    offer   size u64 | name
//	follower  held    bytes u64 | crc u32 of them: what it has of that name, from an earlier attempt or of its own
//	leader    chunk   offset u64 | bytes, from where the two agree, or from 0
//	leader    end     crc u32 of the whole
//	follower  stored  nothing, when it has checked and synced it
//
// So a broken transfer goes on where it stopped, and what the follower has already is not sent. Meanwhile its group runs
// on; only the small state stops it.

// pacer bounds the bytes per second of all transfers of a node.
type pacer struct {
	rate int64

	mu   sync.Mutex // guards next
	next time.Time  // when the bytes so far will have gone
}

// take waits until n more bytes may go.
func (p *pacer) take(ctx context.Context, n int) error {
	p.mu.Lock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	wait := p.next.Sub(now)
	p.next = p.next.Add(time.Duration(int64(n) * int64(time.Second) / p.rate))
	p.mu.Unlock()
	if wait < time.Millisecond {
		return ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sending is a leader's end of a transfer.
type sending struct {
	ctx  context.Context // of the one call that it lives for
	pace *pacer
	conn net.Conn
	to   route
	buf  []byte
}

func (s *sending) attachment(name string, size int64, r io.ReaderAt) error {
	f, err := s.ask(func(dst []byte) []byte { return appendOffer(dst, s.to, size, name) }, frameHeld)
	if err != nil {
		return err
	}
	have, sum, err := parseHeld(f.body)
	if err != nil {
		return err
	}
	crc, err := crcOf(r, min(have, size))
	if err != nil {
		return err
	}
	at := have
	if have > size || crc != sum {
		at, crc = 0, 0
	}
	if crc, err = s.chunks(r, at, size, crc); err != nil {
		return err
	}
	_, err = s.ask(func(dst []byte) []byte { return appendSum(dst, s.to, crc) }, frameStored)
	return err
}

// chunks sends the bytes from at on and returns the CRC of all.
func (s *sending) chunks(r io.ReaderAt, at, size int64, crc uint32) (uint32, error) {
	data := make([]byte, min(size-at, chunkBytes))
	for at < size {
		b := data[:min(size-at, chunkBytes)]
		if _, err := r.ReadAt(b, at); err != nil {
			return 0, err
		}
		crc = crc32.Update(crc, castagnoli, b)
		if err := s.pace.take(s.ctx, len(b)); err != nil {
			return 0, err
		}
		s.buf = appendChunk(s.buf[:0], s.to, at, b)
		if _, err := s.conn.Write(s.buf); err != nil {
			return 0, err
		}
		at += int64(len(b))
	}
	return crc, nil
}

// ask sends a frame and waits for an answer of this kind.
func (s *sending) ask(build func([]byte) []byte, kind frameType) (peerFrame, error) {
	s.buf = build(s.buf[:0])
	if _, err := s.conn.Write(s.buf); err != nil {
		return peerFrame{}, err
	}
	f, err := readFrame(s.conn)
	switch {
	case err != nil:
		return peerFrame{}, err
	case f.kind == frameRefused:
		return peerFrame{}, fmt.Errorf("the follower refused: %s", f.body)
	case f.kind != kind:
		return peerFrame{}, fmt.Errorf("%w: answer of type %d", errFrame, f.kind)
	}
	return f, nil
}

// crcOf returns the CRC of the first n bytes.
func crcOf(r io.ReaderAt, n int64) (uint32, error) {
	sum := crc32.New(castagnoli)
	got, err := io.Copy(sum, io.NewSectionReader(r, 0, n))
	if err == nil && got != n {
		err = io.ErrUnexpectedEOF
	}
	return sum.Sum32(), err
}

func appendOffer(dst []byte, to route, size int64, name string) []byte {
	start := len(dst)
	dst = beginFrame(dst, frameOffer, to, 1)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(size))
	return endFrame(append(dst, name...), start)
}

func parseOffer(b []byte) (a Attachment, err error) {
	if len(b) < 8 {
		return a, errFrame
	}
	a = Attachment{Size: int64(binary.LittleEndian.Uint64(b)), Name: string(b[8:])}
	return a, checkAttachment(a)
}

func appendHeld(dst []byte, to route, have int64, sum uint32) []byte {
	start := len(dst)
	dst = beginFrame(dst, frameHeld, to, 1)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(have))
	return endFrame(binary.LittleEndian.AppendUint32(dst, sum), start)
}

func parseHeld(b []byte) (have int64, sum uint32, err error) {
	if len(b) != 12 {
		return 0, 0, errFrame
	}
	have = int64(binary.LittleEndian.Uint64(b))
	if have < 0 {
		return 0, 0, errFrame
	}
	return have, binary.LittleEndian.Uint32(b[8:]), nil
}

func appendChunk(dst []byte, to route, at int64, b []byte) []byte {
	start := len(dst)
	dst = beginFrame(dst, frameChunk, to, 1)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(at))
	return endFrame(append(dst, b...), start)
}

func parseChunk(b []byte) (at int64, data []byte, err error) {
	if len(b) < 8 || len(b) > 8+chunkBytes {
		return 0, nil, errFrame
	}
	at = int64(binary.LittleEndian.Uint64(b))
	if at < 0 {
		return 0, nil, errFrame
	}
	return at, b[8:], nil
}

func appendSum(dst []byte, to route, sum uint32) []byte {
	start := len(dst)
	dst = beginFrame(dst, frameChunkEnd, to, 1)
	return endFrame(binary.LittleEndian.AppendUint32(dst, sum), start)
}

var errDiffers = errors.New("attachment fails its check on arrival")
