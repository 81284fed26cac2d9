package raftstore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/hashicorp/raft"
)

// InstallSnapshot sends a snapshot over a connection of its own: its attachments first, then the state.
func (p *port) InstallSnapshot(id raft.ServerID, _ raft.ServerAddress, q *raft.InstallSnapshotRequest, a *raft.InstallSnapshotResponse, data io.Reader) error {
	r, ok := data.(*snapshotReader)
	if !ok {
		return errors.New("install from a foreign snapshot")
	}
	ctx, cancel := context.WithTimeout(p.ctx, dialTimeout)
	defer cancel()
	node, to := p.to(string(id))
	conn, err := p.mux.dialConn(ctx, node, purposeInstall)
	if err != nil {
		return err
	}
	o := newOutbox(conn)
	if !p.mux.adopt(o) {
		_ = conn.Close()
		return ErrClosed
	}
	defer p.mux.disown(o)
	defer o.fail(errPeerGone)
	defer context.AfterFunc(p.ctx, func() { o.fail(ErrClosed) })()
	// The follower will need what follows the snapshot: snapshots taken meanwhile do not trim it away.
	p.log.keep(q.LastLogIndex, transferKeep)
	defer p.log.keep(q.LastLogIndex, installedKeep)
	return p.install(&steadyConn{conn}, string(id), to, q, a, r)
}

func (p *port) install(conn net.Conn, id string, to route, q *raft.InstallSnapshotRequest, a *raft.InstallSnapshotResponse, r *snapshotReader) error {
	s := &sending{ctx: p.ctx, pace: p.mux.pace, conn: conn, to: to}
	for i, x := range r.attached {
		if err := s.attachment(x.Name, x.Size, r.files[i]); err != nil {
			return fmt.Errorf("send attachment %q to %s: %w", x.Name, id, err)
		}
	}
	if _, err := conn.Write(appendInstall(nil, to, q)); err != nil {
		return err
	}
	from := &sourceReader{from: r}
	n, copyErr := io.Copy(conn, from)
	if from.err != nil { // the follower waits for the rest, so it has no answer to wait for
		return fmt.Errorf("read snapshot: %w", from.err)
	}
	if copyErr == nil && n != q.Size {
		return fmt.Errorf("snapshot has %d bytes, want %d", n, q.Size)
	}
	// A follower that refuses closes early; what it said is better than "broken pipe".
	f, err := readFrame(&patientConn{conn})
	switch {
	case copyErr != nil && err != nil:
		return fmt.Errorf("send snapshot: %w", copyErr)
	case err != nil:
		return fmt.Errorf("wait for the follower's restore: %w", err)
	case f.kind == frameRefused:
		return fmt.Errorf("%s: %s", id, f.body)
	}
	return parseAnswer(f, header(id), a)
}

// sourceReader keeps the error of what is copied apart from that of where it goes.
type sourceReader struct {
	from io.Reader
	err  error
}

func (s *sourceReader) Read(b []byte) (int, error) {
	n, err := s.from.Read(b)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// steadyConn fails when no progress is made for a while, however long the whole takes.
type steadyConn struct{ net.Conn }

func (c *steadyConn) Read(b []byte) (int, error) {
	_ = c.SetReadDeadline(time.Now().Add(installStep))
	return c.Conn.Read(b)
}

func (c *steadyConn) Write(b []byte) (int, error) {
	_ = c.SetWriteDeadline(time.Now().Add(installStep))
	return c.Conn.Write(b)
}

// patientConn waits for a restore.
type patientConn struct{ net.Conn }

func (c *patientConn) Read(b []byte) (int, error) {
	inner := c.Conn
	if s, ok := inner.(*steadyConn); ok {
		inner = s.Conn
	}
	_ = inner.SetReadDeadline(time.Now().Add(installFinish))
	return inner.Read(b)
}

// serveInstall receives attachments and then a snapshot, and answers when the machine has restored it.
func (m *mux) serveInstall(o *outbox, in *bufio.Reader, node string) {
	steady := &steadyConn{o.conn}
	from := &steadyReader{steady, in}
	var x *fetch
	defer func() {
		if x != nil {
			_ = x.close()
			x.snapshots.fetching.Unlock()
		}
	}()
	for {
		f, err := readFrame(from)
		if err != nil {
			return
		}
		back := route{group: f.group, to: f.from}
		p := m.port(f.group)
		switch {
		case p == nil:
			err = fmt.Errorf("group %d: %w", f.group, ErrNoGroup)
		case f.to != p.self:
			err = &replacedError{m.node, p.self}
		case f.kind == frameInstall:
			answer, err := m.install(p, from, node, f, x)
			if err != nil {
				m.log.Debug("snapshot was not installed", "group", f.group, "node", node, "err", err)
			}
			_, _ = steady.Write(appendAnswer(nil, back, f.request, answer, err))
			return
		case x == nil:
			x, err = p.replica.fetch()
		}
		var answer []byte
		if err == nil {
			answer, err = p.receive(x, f, back)
		}
		if err != nil {
			answer = appendAnswer(nil, back, f.request, nil, err)
		}
		if len(answer) > 0 {
			_, _ = steady.Write(answer)
		}
		if err != nil {
			return
		}
	}
}

// receive handles one frame of a transfer and returns the answer, if there is one.
func (p *port) receive(x *fetch, f peerFrame, back route) ([]byte, error) {
	switch f.kind {
	case frameOffer:
		a, err := parseOffer(f.body)
		if err == nil && len(x.arrived) >= maxAttachments {
			err = fmt.Errorf("more than %d attachments", maxAttachments)
		}
		if err = cmpErr(err, p.mux.wal.disk.refusal(roomNone)); err != nil {
			return nil, err
		}
		have, sum, err := x.offer(a)
		return appendHeld(nil, back, have, sum), err
	case frameChunk:
		at, data, err := parseChunk(f.body)
		if err != nil {
			return nil, err
		}
		return nil, x.chunk(at, data)
	case frameChunkEnd:
		err := x.end(f.body)
		return appendNumbers(nil, frameStored, back, f.request, 0), err
	}
	return nil, fmt.Errorf("%w: request of type %d", errFrame, f.kind)
}

// steadyReader reads what the buffered reader holds first.
type steadyReader struct {
	conn *steadyConn
	in   *bufio.Reader
}

func (r *steadyReader) Read(p []byte) (int, error) {
	if r.in.Buffered() > 0 {
		return r.in.Read(p[:min(len(p), r.in.Buffered())])
	}
	return r.conn.Read(p)
}

// install hands a snapshot, whose attachments have come, to the group.
func (m *mux) install(p *port, in io.Reader, node string, f peerFrame, x *fetch) (any, error) {
	q := &raft.InstallSnapshotRequest{RPCHeader: header(replicaID(node, f.from))}
	if err := parseInstall(f.body, q); err != nil {
		return nil, err
	}
	if x != nil {
		x.snapshots.expect(x.arrived)
	}
	p.installing.Store(true)
	defer p.installing.Store(false)
	done := make(chan raft.RPCResponse, 1)
	if !p.deliver(raft.RPC{Command: q, Reader: io.LimitReader(in, q.Size), RespChan: done}) {
		return nil, ErrClosed
	}
	select {
	case r := <-done:
		return r.Response, r.Error
	case <-p.ctx.Done():
		return nil, ErrClosed
	}
}
