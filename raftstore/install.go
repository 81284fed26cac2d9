package raftstore

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/hashicorp/raft"
)

// InstallSnapshot sends a snapshot over a connection of its own.
func (p *port) InstallSnapshot(id raft.ServerID, _ raft.ServerAddress, q *raft.InstallSnapshotRequest, a *raft.InstallSnapshotResponse, data io.Reader) error {
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
	steady := &steadyConn{conn}
	if _, err := steady.Write(appendInstall(nil, to, q)); err != nil {
		return err
	}
	n, copyErr := io.Copy(steady, data)
	if copyErr == nil && n != q.Size {
		return fmt.Errorf("snapshot has %d bytes, want %d", n, q.Size)
	}
	// A follower that refuses closes early; what it said is better than "broken pipe".
	_ = conn.SetReadDeadline(time.Now().Add(installFinish))
	f, err := readFrame(conn)
	switch {
	case copyErr != nil && err != nil:
		return fmt.Errorf("send snapshot: %w", copyErr)
	case err != nil:
		return fmt.Errorf("wait for the follower's restore: %w", err)
	case f.kind == frameRefused:
		return fmt.Errorf("%s: %s", id, f.body)
	}
	return parseAnswer(f, header(string(id)), a)
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

// serveInstall receives a snapshot and answers when the machine has restored it.
func (m *mux) serveInstall(o *outbox, in *bufio.Reader, node string) {
	steady := &steadyConn{o.conn}
	f, err := readFrame(in)
	if err != nil {
		return
	}
	answer, err := m.install(&steadyReader{steady, in}, node, f)
	if err != nil {
		m.log.Debug("snapshot was not installed", "group", f.group, "node", node, "err", err)
	}
	_, _ = steady.Write(appendAnswer(nil, route{group: f.group, to: f.from}, f.request, answer, err))
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

func (m *mux) install(in io.Reader, node string, f peerFrame) (any, error) {
	q := &raft.InstallSnapshotRequest{RPCHeader: header(replicaID(node, f.from))}
	if f.kind != frameInstall {
		return nil, fmt.Errorf("%w: request of type %d", errFrame, f.kind)
	}
	if err := parseInstall(f.body, q); err != nil {
		return nil, err
	}
	p := m.port(f.group)
	if p == nil {
		return nil, fmt.Errorf("group %d: %w", f.group, ErrNoGroup)
	}
	if f.to != p.self {
		return nil, &replacedError{m.node, p.self}
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
