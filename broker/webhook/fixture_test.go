package webhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// memoryLog is a partition's log of one replica: what is proposed is applied.
type memoryLog struct {
	partition *broker.Partition
	refuse    atomic.Int32 // as many progress entries have an unknown outcome

	mu      sync.Mutex // guards what follows
	index   uint64
	entries map[byte]int // by kind
	bytes   int          // of progress entries, the last
}

const progressKind = 3

func (l *memoryLog) Propose(_ context.Context, entry []byte) (any, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kind := entry[1]
	if kind == progressKind && l.refuse.Add(-1) >= 0 {
		return nil, broker.ErrOutcomeUnknown
	}
	l.index++
	l.entries[kind]++
	if kind == progressKind {
		l.bytes = len(entry)
	}
	return l.partition.Apply(l.index, entry), nil
}

// saved is how many progress entries there are, and the size of the last.
func (l *memoryLog) saved() (entries, size int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entries[progressKind], l.bytes
}

func (l *memoryLog) Leader() (string, bool) { return "self", true }
func (l *memoryLog) IsLeader() bool         { return true }
func (l *memoryLog) Current() bool          { return true }
func (l *memoryLog) Writable() error        { return nil }

// cluster is one broker with all partitions, and the dispatchers that lead them
// in turn: each has its own term.
type cluster struct {
	t      testing.TB
	broker *broker.Broker
	meta   *broker.Meta
	logs   []*memoryLog
	key    []byte
	world  *world
	*Dispatcher
	nodes []*node
}

// node is what a dispatcher sees of the cluster.
type node struct {
	c     *cluster
	d     *Dispatcher
	term  uint64
	leads atomic.Bool
}

func (n *node) Catalog() *broker.Catalog { return n.c.meta.Catalog() }

func (n *node) Change(_ context.Context, m broker.MetaCommand) error {
	refused, _ := n.c.meta.Apply(0, m.Encode()).(error)
	n.c.broker.SetCatalog(n.c.meta.Catalog())
	return refused
}

func (n *node) Leading() map[uint16]uint64 {
	led := map[uint16]uint64{}
	for p := range n.c.logs {
		if n.leads.Load() {
			led[uint16(p)] = n.term
		}
	}
	return led
}

func (n *node) Barrier(context.Context, uint16) error { return nil }

func (n *node) Ask(_ context.Context, req []byte) (answers [][]byte) {
	for _, other := range n.c.nodes {
		if other != n && other.d != nil {
			if answer, err := other.d.Answer(req); err == nil {
				answers = append(answers, answer)
			}
		}
	}
	return answers
}

func (n *node) Key() []byte { return n.c.key }

// newCluster makes a cluster of so many partitions whose endpoints are the
// world's. To be used inside a synctest bubble; end it with close.
func newCluster(t testing.TB, partitions int, o Options) *cluster {
	t.Helper()
	b, err := broker.New(broker.Options{Self: "self", Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, broker: b, meta: broker.NewMeta(), key: NewKey(), world: &world{hosts: map[string]answerer{}, count: map[string]int{}}}
	c.meta.Apply(0, broker.CreateCluster{ClusterID: "c1", Partitions: partitions, Node: broker.PutNode{ID: "self", Name: "self"}}.Encode())
	c.meta.Apply(0, broker.SetWebhookKey{Fingerprint: Fingerprint(c.key)}.Encode())
	b.SetCatalog(c.meta.Catalog())
	for p := range partitions {
		log := &memoryLog{partition: b.Partition(uint16(p)), entries: map[byte]int{}}
		c.logs = append(c.logs, log)
		b.OpenPartition(uint16(p), log)
	}
	c.start(o)
	return c
}

// start adds a node, which leads everything.
func (c *cluster) start(o Options) *node {
	n := &node{c: c, term: uint64(len(c.nodes) + 1)}
	n.leads.Store(true)
	o.Broker, o.Node = c.broker, n
	if o.Transport == nil {
		o.Transport = c.world
	}
	n.d = New(o)
	c.nodes, c.Dispatcher = append(c.nodes, n), n.d
	return n
}

func (c *cluster) close() {
	for _, n := range c.nodes {
		n.d.Close()
	}
	_ = c.broker.Close()
}

func (c *cluster) create(spec protocol.WebhookSpec) protocol.Webhook {
	c.t.Helper()
	if spec.URL == "" {
		spec.URL = "https://a.example/hook"
	}
	if spec.Topics == nil {
		spec.Topics = []string{"**"}
	}
	w, err := c.Create(context.Background(), spec)
	if err != nil {
		c.t.Fatalf("create %+v: %v", spec, err)
	}
	return w
}

func (c *cluster) publish(topic, data string) protocol.Published {
	c.t.Helper()
	p, err := c.broker.Publish(context.Background(), &protocol.Publish{Event: protocol.Event{Topic: topic, Data: []byte(data)}})
	if err != nil {
		c.t.Fatalf("publish %q to %s: %v", data, topic, err)
	}
	return p
}

func (c *cluster) publishMany(topic string, n int) {
	c.t.Helper()
	for from := 0; from < n; from += 1000 {
		var list []protocol.Publish
		for i := from; i < min(from+1000, n); i++ {
			list = append(list, protocol.Publish{Event: protocol.Event{Topic: topic, Data: fmt.Append(nil, i)}})
		}
		for _, r := range c.broker.PublishBatch(context.Background(), list) {
			if r.Err != nil {
				c.t.Fatal(r.Err)
			}
		}
	}
}

func (c *cluster) get(id string) protocol.Webhook {
	c.t.Helper()
	w, err := c.Get(context.Background(), id)
	if err != nil {
		c.t.Fatalf("get %s: %v", id, err)
	}
	return w
}

// read gives all events of a topic.
func (c *cluster) read(topic string) (list []*broker.Record) {
	c.t.Helper()
	sel, err := protocol.ParseSelectors([]string{topic})
	if err != nil {
		c.t.Fatal(err)
	}
	s, err := c.broker.Subscribe(sel, protocol.Start{Kind: protocol.StartEarliest}, broker.SubscribeOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	defer s.Close()
	b, err := s.Pull(1000)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, item := range b.Items {
		if item.Event != nil {
			list = append(list, item.Event)
		}
	}
	return list
}

// world answers requests by host, in place of the network.
type world struct {
	mu    sync.Mutex // guards what follows
	hosts map[string]answerer
	count map[string]int
	got   []request
	now   int // requests under way
	most  int
}

// answerer decides on one request: its status, and headers.
type answerer func(r request) (status int, header http.Header, err error)

// request is what arrived.
type request struct {
	n                int // of this host, from 1
	host, method, id string
	topic, body      string
	header           http.Header
	at               time.Time
	ctx              context.Context
}

func (w *world) serve(host string, a answerer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hosts[host] = a
}

// peak is the most requests at a time since it was asked last.
func (w *world) peak() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	most := w.most
	w.most = 0
	return most
}

func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	q := request{host: r.URL.Host, method: r.Method, id: r.Header.Get("Webhook-Id"), topic: r.Header.Get("Pushd-Topic"), header: r.Header, at: time.Now(), ctx: r.Context()}
	if r.Body != nil {
		body, _ := io.ReadAll(r.Body)
		q.body = string(body)
	}
	w.mu.Lock()
	a := w.hosts[q.host]
	w.count[q.host]++
	q.n = w.count[q.host]
	w.got = append(w.got, q)
	w.now++
	w.most = max(w.most, w.now)
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.now--
		w.mu.Unlock()
	}()
	status, header, err := http.StatusOK, http.Header(nil), error(nil)
	if a != nil {
		status, header, err = a(q)
	}
	if err != nil {
		return nil, err
	}
	if header == nil {
		header = http.Header{}
	}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(header.Get("Test-Body")))}, nil
}

func (w *world) requests(host string) (list []request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.got {
		if r.host == host {
			list = append(list, r)
		}
	}
	return list
}

func (w *world) bodies(host string) (list []string) {
	for _, r := range w.requests(host) {
		list = append(list, r.body)
	}
	return list
}

// always answers with a status.
func always(status int) answerer {
	return func(request) (int, http.Header, error) { return status, nil, nil }
}

// hang waits until the request is given up.
func hang(r request) (int, http.Header, error) {
	<-r.ctx.Done()
	return 0, nil, r.ctx.Err()
}

var errDown = errors.New("connection refused")

func down(request) (int, http.Header, error) { return 0, nil, errDown }

func wantStrings(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func numbers(from, to int) (list []string) {
	for i := from; i <= to; i++ {
		list = append(list, fmt.Sprint(i))
	}
	return list
}
