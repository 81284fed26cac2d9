package raftstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// echo is a state machine that keeps all entries and answers with their number.
type echo struct {
	mu       sync.Mutex
	applied  [][]byte
	moved    chan struct{} // closed and renewed on each Apply and Restore
	attach   []Attachment
	restored string // directory of the newest Restore
}

func newEcho() *echo { return &echo{moved: make(chan struct{})} }

func (e *echo) Apply(entries []Entry) []any {
	e.mu.Lock()
	defer e.mu.Unlock()
	results := make([]any, len(entries))
	for i, x := range entries {
		e.applied = append(e.applied, x.Data)
		results[i] = len(e.applied)
	}
	e.signal()
	return results
}

func (e *echo) signal() {
	close(e.moved)
	e.moved = make(chan struct{})
}

func (e *echo) Snapshot() (Snapshot, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return echoSnapshot{bytes.Join(e.applied, []byte("\n")), e.attach}, nil
}

func (e *echo) Restore(state io.Reader, dir string) error {
	b, err := io.ReadAll(state)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.applied = nil
	if len(b) > 0 {
		e.applied = bytes.Split(b, []byte("\n"))
	}
	e.restored = dir
	if dir != "" {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		e.attach = nil
		for _, x := range entries {
			to := filepath.Join(filepath.Dir(filepath.Dir(dir)), "moved-"+x.Name())
			if err := os.Rename(filepath.Join(dir, x.Name()), to); err != nil {
				return err
			}
			st, _ := os.Stat(to)
			e.attach = append(e.attach, Attachment{Name: x.Name(), Path: to, Size: st.Size()})
		}
	}
	e.signal()
	return nil
}

// wait returns once n entries are there.
func (e *echo) wait(t testing.TB, n int) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		e.mu.Lock()
		have, moved := len(e.applied), e.moved
		e.mu.Unlock()
		if have >= n {
			return
		}
		select {
		case <-moved:
		case <-deadline:
			t.Fatalf("got %d entries, want %d", have, n)
		}
	}
}

func (e *echo) all() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []string
	for _, b := range e.applied {
		out = append(out, string(b))
	}
	return out
}

type echoSnapshot struct {
	state  []byte
	attach []Attachment
}

func (s echoSnapshot) Persist(w io.Writer) error {
	_, err := w.Write(s.state)
	return err
}
func (s echoSnapshot) Attachments() []Attachment { return s.attach }
func (s echoSnapshot) Committed()                {}
func (s echoSnapshot) Release()                  {}

// cluster is nodes in this process on loopback TCP.
type cluster struct {
	t     testing.TB
	opts  func(*Options)
	mu    sync.Mutex
	addrs map[string]string
	nodes map[string]*testNode
	mute  map[string]chan struct{} // nodes that are silent, until the channel is closed
	disk  func(id string) *memFS   // of clusters on file systems in memory
}

type testNode struct {
	id       string
	dir      string
	store    *Store
	groups   map[uint16]*Group
	machines map[uint16]*echo
	fatal    chan error
}

func newCluster(t testing.TB, n int, opts func(*Options)) *cluster {
	c := &cluster{t: t, opts: opts, addrs: map[string]string{}, nodes: map[string]*testNode{}}
	for i := range n {
		id := fmt.Sprintf("node-%d", i+1)
		c.nodes[id] = &testNode{id: id, dir: t.TempDir()}
		c.start(id)
	}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			if n.store != nil {
				_ = n.store.Close()
			}
		}
	})
	return c
}

func (c *cluster) ids() []string {
	var ids []string
	for i := range len(c.nodes) {
		ids = append(ids, "node-"+strconv.Itoa(i+1))
	}
	return ids
}

func (c *cluster) start(id string) *testNode {
	c.t.Helper()
	n, err := c.tryStart(id)
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

// deadline bounds what a test waits for.
func (c *cluster) deadline() <-chan time.Time { return time.After(20 * time.Second) }

func (c *cluster) tryStart(id string) (*testNode, error) {
	c.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	c.addrs[id] = ln.Addr().String()
	c.mu.Unlock()
	n := c.nodes[id]
	n.groups, n.machines, n.fatal = map[uint16]*Group{}, map[uint16]*echo{}, make(chan error, 1)
	o := Options{
		Dir: n.dir, NodeID: id, Listener: ln,
		Dial: func(ctx context.Context, node string) (net.Conn, error) {
			c.mu.Lock()
			addr := c.addrs[node]
			c.mu.Unlock()
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
			if err != nil {
				return nil, err
			}
			return &mutableConn{Conn: conn, c: c, from: id, to: node}, nil
		},
		Fatal: func(err error) { n.fatal <- err },
	}
	if os.Getenv("RAFTSTORE_LOG") != "" {
		o.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", id)
	}
	if c.opts != nil {
		c.opts(&o)
	}
	n.store, err = Open(o)
	return n, err
}

// silence makes a node hang: nothing it sends and nothing sent to it arrives, but no connection ends.
func (c *cluster) silence(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mute == nil {
		c.mute = map[string]chan struct{}{}
	}
	c.mute[id] = make(chan struct{})
}

func (c *cluster) unsilence() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, ch := range c.mute {
		close(ch)
		delete(c.mute, id)
	}
}

// mutableConn is a dialled connection whose ends may be silenced.
type mutableConn struct {
	net.Conn
	c        *cluster
	from, to string
}

func (m *mutableConn) wait() {
	m.c.mu.Lock()
	a, b := m.c.mute[m.from], m.c.mute[m.to]
	m.c.mu.Unlock()
	if a != nil {
		<-a
	}
	if b != nil {
		<-b
	}
}

func (m *mutableConn) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	m.wait()
	return n, err
}

func (m *mutableConn) Write(p []byte) (int, error) {
	m.wait()
	return m.Conn.Write(p)
}

func (c *cluster) stop(id string) {
	c.t.Helper()
	if err := c.nodes[id].store.Close(); err != nil {
		c.t.Fatal(err)
	}
	c.nodes[id].store = nil
}

func (c *cluster) open(id string, group uint16, bootstrap []string) *Group {
	c.t.Helper()
	n := c.nodes[id]
	sm := newEcho()
	g, err := n.store.OpenGroup(group, sm, bootstrap)
	if err != nil {
		c.t.Fatal(err)
	}
	n.groups[group], n.machines[group] = g, sm
	return g
}

func (c *cluster) openAll(group uint16) {
	c.t.Helper()
	for _, id := range c.ids() {
		c.open(id, group, c.ids())
	}
}

// leader waits for a node that can commit.
func (c *cluster) leader(group uint16) *testNode {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	found := make(chan *testNode, len(c.nodes))
	var asking sync.WaitGroup
	defer asking.Wait() // one that outlives this call could take a signal from the next
	defer cancel()
	for _, n := range c.nodes {
		if n.store == nil || n.groups[group] == nil {
			continue
		}
		g := n.groups[group]
		asking.Go(func() {
			for {
				try, cancel := context.WithTimeout(ctx, 5*time.Second)
				err := g.Barrier(try)
				cancel()
				if err == nil {
					found <- n
					return
				}
				select {
				case <-g.Changes():
				case <-ctx.Done():
					return
				}
			}
		})
	}
	select {
	case n := <-found:
		return n
	case <-ctx.Done():
		c.t.Fatal("no leader")
		return nil
	}
}

// besides is another node.
func (c *cluster) besides(n *testNode) string {
	ids := c.ids()
	return ids[slices.IndexFunc(ids, func(id string) bool { return id != n.id })]
}

// propose proposes at whoever leads until it is taken.
func (c *cluster) propose(group uint16, data string) {
	c.t.Helper()
	for range 50 {
		n := c.leader(group)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		_, err := n.groups[group].Propose(ctx, []byte(data))
		cancel()
		if err == nil {
			return
		}
		if !errors.Is(err, ErrNotLeader) {
			c.t.Fatalf("propose %q: %v", data, err)
		}
	}
	c.t.Fatalf("propose %q: no leader took it", data)
}
