package webhook

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/pushd/pushd/broker"
)

// Node is what webhooks need of the node that they run on.
type Node interface {
	Catalog() *broker.Catalog
	// Change changes the catalog at its leader, and returns when this node has the change.
	Change(ctx context.Context, c broker.MetaCommand) error
	// Leading lists the partitions that this node leads, with their terms.
	Leading() map[uint16]uint64
	// Barrier returns when all that was committed in a partition is applied here.
	Barrier(ctx context.Context, partition uint16) error
	// Ask sends a question to the other nodes, and returns the answers of those that answer.
	Ask(ctx context.Context, req []byte) [][]byte
	// Key is the key that seals secrets; nil while it is not here.
	Key() []byte
}

// Options configure a [Dispatcher]. Broker and Node are required.
type Options struct {
	Broker *broker.Broker
	Node   Node
	Log    *slog.Logger // nil discards
	Tracer trace.Tracer // of attempts; nil: none

	AllowPrivate bool                      // requests may go to any address
	AllowHTTP    bool                      // and without TLS
	NoVerify     bool                      // endpoints need not agree before the first event
	Own          func(netip.AddrPort) bool // addresses of nodes, where requests never go; nil: none
	Resolver     *net.Resolver             // nil: the system's
	TLS          *tls.Config               // nil: the system's roots
	Transport    http.RoundTripper         // nil: one of our own, behind the guard
	Now          func() time.Time
}

// Dispatcher sends events to the webhooks of the partitions that this node
// leads.
type Dispatcher struct {
	options   Options
	broker    *broker.Broker
	node      Node
	log       *slog.Logger
	now       func() time.Time
	guard     guard
	transport http.RoundTripper

	running context.Context
	stop    context.CancelFunc
	wg      sync.WaitGroup

	mu        sync.Mutex // guards what follows, and endpoints, lanes and leads
	closed    bool
	catalog   *broker.Catalog // that endpoints were made from
	keyed     bool            // and with the key
	endpoints map[string]*endpoint
	hosts     map[string]*host
	leads     map[uint16]*lead
	ready     []*endpoint // each once, in turn
	sleeping  map[*endpoint]int64
	inFlight  int
	troubled  int // of those, to endpoints whose last answer was a failure
	logged    int
	verifying map[string]*verification
	counters  counters
}

// New makes a dispatcher and starts it.
func New(o Options) *Dispatcher {
	d := &Dispatcher{
		options: o, broker: o.Broker, node: o.Node, log: o.Log, now: o.Now,
		endpoints: map[string]*endpoint{}, hosts: map[string]*host{}, leads: map[uint16]*lead{},
		catalog: &broker.Catalog{}, sleeping: map[*endpoint]int64{}, verifying: map[string]*verification{},
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if d.now == nil {
		d.now = time.Now
	}
	d.guard = guard{private: o.AllowPrivate, own: o.Own}
	if d.transport = o.Transport; d.transport == nil {
		d.transport = d.guard.transport(o.Resolver, o.TLS)
	}
	d.running, d.stop = context.WithCancel(context.Background())
	d.wg.Go(d.run)
	return d
}

// Close ends all requests. Progress that is not replicated is the next
// leader's: see [Dispatcher.Drain].
func (d *Dispatcher) Close() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.stop()
	d.wg.Wait()
	if t, ok := d.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// spawn runs f, for which Close waits. d.mu is held.
func (d *Dispatcher) spawn(f func()) {
	if !d.closed {
		d.wg.Go(f)
	}
}

// run follows leadership and catalog, and the time.
func (d *Dispatcher) run() {
	poll, timer, sweep := time.NewTicker(pollPeriod), time.NewTicker(timerPeriod), time.NewTicker(sweepPeriod)
	defer poll.Stop()
	defer timer.Stop()
	defer sweep.Stop()
	for {
		select {
		case <-d.running.Done():
			return
		case <-poll.C:
			d.follow()
			d.verifyDue()
		case <-timer.C:
			d.wakeSleepers()
		case <-sweep.C:
			d.mu.Lock()
			d.spawn(d.sweep)
			d.mu.Unlock()
		}
	}
}

// enqueue puts an endpoint among those that may have something to send. d.mu is
// held.
func (d *Dispatcher) enqueue(e *endpoint) {
	if e.queued || !e.active() {
		return
	}
	e.queued = true
	delete(d.sleeping, e)
	d.ready = append(d.ready, e)
}

// pump starts requests while there is something to send. d.mu is held.
func (d *Dispatcher) pump() {
	for {
		j, ok := d.next()
		if !ok {
			return
		}
		d.spawn(func() { d.work(j) })
	}
}

// next takes the next event to send, each endpoint in its turn. d.mu is held.
func (d *Dispatcher) next() (job, bool) {
	if d.closed {
		return job{}, false
	}
	now := d.now()
	for len(d.ready) > 0 && d.inFlight < maxPerNode {
		e := d.ready[0]
		d.ready[0] = nil
		d.ready = d.ready[1:]
		e.queued = false
		if j, ok := d.start(e, now); ok {
			d.enqueue(e)
			return j, true
		}
		d.unpark(e.host) // what it did not use, another may
	}
	return job{}, false
}

// start begins a request to an endpoint, if it may have one now. d.mu is held.
func (d *Dispatcher) start(e *endpoint, now time.Time) (job, bool) {
	partitions := len(d.catalog.Partitions)
	if !e.active() || e.inFlight >= e.allowed(partitions) {
		return job{}, false // what ends will look again
	}
	troubled := e.breaker.troubled()
	if at := e.rest(now); at != 0 || troubled && d.troubled >= maxTroubled {
		d.sleeping[e] = at
		return job{}, false
	}
	if e.host.inFlight >= maxPerHost {
		e.host.park(e)
		return job{}, false
	}
	n, it := e.take(now)
	for _, other := range e.lanes {
		d.behind(other)
	}
	if it == nil {
		if at := e.due(); at != 0 {
			d.sleeping[e] = at
		}
		return job{}, false
	}
	e.bucket.rate = e.rate * e.share(partitions)
	e.bucket.use()
	e.inFlight++
	e.host.inFlight++
	d.inFlight++
	n.lead.inFlight++
	if it.troubled = troubled; troubled {
		d.troubled++
	}
	return job{lane: n, item: it, ctx: n.lead.ctx, endpoint: e, to: e.target, host: e.host, attempt: it.tries, gaps: len(e.gaps) > 0}, true
}

// wakeSleepers looks again at endpoints whose time has come.
func (d *Dispatcher) wakeSleepers() {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now().UnixMilli()
	for e, at := range d.sleeping {
		if at <= now {
			delete(d.sleeping, e)
			d.enqueue(e)
		}
	}
	d.pump()
}

// work sends one event, and then whatever is next, since a goroutine that has
// sent one has room for another.
func (d *Dispatcher) work(j job) {
	for ok := true; ok; {
		record, r := d.attempt(j)
		d.finish(j, record, r)
		d.mu.Lock()
		j, ok = d.next()
		d.pump()
		d.mu.Unlock()
	}
}
