package raftstore

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// mux carries all groups' Raft traffic over one listener and, to each peer, two connections: one for appends, one
// for the small urgent rest. Snapshots have a connection each.
type mux struct {
	node     string
	listener net.Listener
	dialPeer func(ctx context.Context, nodeID string) (net.Conn, error)
	wal      *wal
	log      *slog.Logger
	silence  time.Duration // a heartbeat without answer for so long has failed
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup
	notices  *notices
	heard    hearing
	beats    *beats
	pace     *pacer

	mu      sync.Mutex // guards what follows
	closed  bool
	ports   map[uint16]*port
	links   map[linkKey]*link
	boxes   map[*outbox]struct{} // open connections
	probing map[string]bool      // nodes whose death is being found out
}

type linkKey struct {
	node    string
	purpose purpose
}

func newMux(o Options, w *wal) *mux {
	m := &mux{
		node: o.NodeID, listener: o.Listener, dialPeer: o.Dial, wal: w, log: o.Log, silence: 2 * o.HeartbeatTimeout, beats: newBeats(o.HeartbeatTimeout), pace: &pacer{rate: o.TransferRate},
		ports: map[uint16]*port{}, links: map[linkKey]*link{}, boxes: map[*outbox]struct{}{}, probing: map[string]bool{},
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.notices = newNotices(m)
	m.spawn(m.accept)
	m.spawn(m.notices.run)
	return m
}

// spawn runs fn on a goroutine that close waits for. It reports false when the mux is closed.
func (m *mux) spawn(fn func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.running.Go(fn)
	return true
}

// adopt makes close end the connection.
func (m *mux) adopt(o *outbox) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || len(m.boxes) >= maxPeerConns {
		return false
	}
	m.boxes[o] = struct{}{}
	return true
}

func (m *mux) disown(o *outbox) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.boxes, o)
}

// close ends all connections; after it nothing leaves this node.
func (m *mux) close() {
	m.mu.Lock()
	m.closed = true
	boxes := m.boxes
	m.boxes = map[*outbox]struct{}{}
	m.mu.Unlock()
	m.cancel()
	_ = m.listener.Close()
	for o := range boxes {
		o.fail(ErrClosed)
	}
	m.running.Wait()
}

func (m *mux) link(node string, p purpose) *link {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := linkKey{node, p}
	l := m.links[key]
	if l == nil {
		l = &link{mux: m, node: node, purpose: p}
		m.links[key] = l
	}
	return l
}

func (m *mux) port(group uint16) *port {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ports[group]
}

func (m *mux) register(p *port) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ports[p.group] = p
}

func (m *mux) unregister(p *port) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.ports, p.group)
}

func (m *mux) allPorts() []*port {
	m.mu.Lock()
	defer m.mu.Unlock()
	ports := make([]*port, 0, len(m.ports))
	for _, p := range m.ports {
		ports = append(ports, p)
	}
	return ports
}

// dialConn connects to a node and says what for.
func (m *mux) dialConn(ctx context.Context, node string, p purpose) (net.Conn, error) {
	conn, err := m.dialPeer(ctx, node)
	if err != nil {
		return nil, err
	}
	_ = conn.SetWriteDeadline(time.Now().Add(helloTimeout))
	if _, err := conn.Write(appendHello(nil, p, m.node)); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

func (m *mux) accept() {
	for {
		conn, err := m.listener.Accept()
		if err != nil {
			if m.ctx.Err() != nil {
				return
			}
			m.log.Warn("accepting a peer connection failed", "err", err)
			select {
			case <-time.After(redialAfter): // out of file descriptors: do not spin
				continue
			case <-m.ctx.Done():
				return
			}
		}
		o := newOutbox(conn)
		if !m.adopt(o) || !m.spawn(func() { m.serve(o) }) {
			_ = conn.Close()
		}
	}
}

// serve handles a peer's connection.
func (m *mux) serve(o *outbox) {
	defer m.disown(o)
	defer o.fail(errPeerGone)
	in := bufio.NewReaderSize(o.conn, 64<<10)
	_ = o.conn.SetReadDeadline(time.Now().Add(helloTimeout))
	p, node, err := readHello(in)
	if err != nil {
		m.log.Debug("peer connection ended before its hello", "err", err)
		return
	}
	_ = o.conn.SetReadDeadline(time.Time{})
	if p == purposeInstall {
		m.serveInstall(o, in, node)
		return
	}
	if !m.spawn(o.run) {
		return
	}
	m.serveRequests(o, in, node)
	m.spawn(func() { m.probe(node) })
}

func (m *mux) serveRequests(o *outbox, in *bufio.Reader, node string) {
	heard := m.heard.from(node)
	var burst burst
	for {
		if in.Buffered() < peerHeaderSize {
			burst.answer()
		}
		f, err := readFrame(in)
		hear(heard)
		if err != nil {
			m.log.Debug("peer connection ended", "node", node, "err", err)
			return
		}
		if err := m.request(o, node, f, &burst); err != nil {
			refuse(o, f, err)
		}
	}
}

// request hands a request to its group.
func (m *mux) request(o *outbox, node string, f peerFrame, b *burst) error {
	p := m.port(f.group)
	if p == nil {
		return fmt.Errorf("group %d: %w", f.group, ErrNoGroup)
	}
	if f.kind == frameWho || f.to != p.self {
		if f.request != 0 {
			_ = o.add(func(dst []byte) []byte { return appendIncarnation(dst, p.back(f), f.request) })
		}
		return nil
	}
	cmd, err := parseRequest(f, header(replicaID(node, f.from)))
	if err != nil {
		return err
	}
	return p.take(inbound{from: o, frame: f, command: cmd}, b)
}

func refuse(o *outbox, f peerFrame, err error) {
	if f.request != 0 {
		_ = o.add(func(dst []byte) []byte {
			return appendAnswer(dst, route{group: f.group, to: f.from}, f.request, nil, err)
		})
	}
}
