package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pushd/pushd/protocol"
)

// Errors of [Log] and [Peers] that the broker acts on.
var (
	// ErrNotLeader says that the entry surely was not proposed.
	ErrNotLeader = errors.New("this node does not lead the partition")
	// ErrOutcomeUnknown says that the entry may be applied or not.
	ErrOutcomeUnknown = errors.New("the outcome of the entry is unknown")
	// ErrUnreachable says that a call surely did not reach the node.
	ErrUnreachable = errors.New("the node can't be reached")
)

// Log is one partition's replicated log, as the broker needs it.
type Log interface {
	// Propose returns what Apply answered, once the entry is stored on a quorum.
	Propose(ctx context.Context, entry []byte) (any, error)
	Leader() (node string, known bool)
	IsLeader() bool
	// Current says whether readers may be served from this replica: it has caught up since it was opened.
	Current() bool
	// Writable is nil unless this node's disk has no room for new events: a [protocol.Error] of code disk_full.
	Writable() error
}

// Peers reaches the brokers of other nodes.
type Peers interface {
	Call(ctx context.Context, node string, method uint8, req []byte) ([]byte, error)
	// Broadcast tells all other nodes, at best effort.
	Broadcast(method uint8, req []byte)
	// Stream gives recv what a node sends until the stream ends, recv says so or ctx does. A frame is valid until
	// recv returns.
	Stream(ctx context.Context, node string, method uint8, req []byte, recv func(frame []byte) error) error
}

// Methods of [Peers], answered by [Broker.ServeCall].
const (
	MethodPublish    uint8 = 1 + iota // proposals for one partition, at its leader
	_                                 // MethodRead before its question had began, since and last
	MethodLive                        // an event that is never stored
	MethodTopics                      // topics of the partitions held here
	MethodConsumer                    // a consumer's begin, end or progress, at its partition's leader
	MethodRestore                     // events of a snapshot file, at their partition's leader
	MethodSum                         // the sum of a full segment
	MethodRecord                      // a record's bytes, to repair another replica's
	MethodLeader                      // who leads a partition, as the asked node knows
	_                                 // MethodFeed before its question told a feed at 0 from one that has nothing
	MethodFeedChange                  // what else those follow whom MethodFeed serves
	MethodRead                        // what a reader wants of a partition
	MethodFeed                        // a stream of what a node's readers follow; answered by [Broker.ServeStream]
)

// Options configure a [Broker].
type Options struct {
	Self      string       // this node's id
	Dir       string       // holds a folder per partition
	Peers     Peers        // nil: there are no other nodes
	Log       *slog.Logger // nil discards
	TailBytes int          // newest events kept in memory per partition; 0 means 4 MiB
	Now       func() time.Time
	// ScrubRate is how much of the segments that are full is read over again, in bytes per second, to find damage
	// in time; 0 means 1 MiB, less than 0 none.
	ScrubRate int
	// Fatal is called when a segment can't be written: the node must stop. nil panics.
	Fatal func(error)
	// Damaged is called when a replica is found to differ from all others; nil: it is only logged.
	Damaged func(partition uint16, reason string)
}

// Broker serves publishers and readers of one node.
type Broker struct {
	self  string
	dir   string
	peers Peers
	log   *slog.Logger
	tail  int
	now   func() time.Time

	scrubRate int
	onDamage  func(partition uint16, reason string)
	fatal     func(error)

	catalog atomic.Pointer[Catalog]
	salt    atomic.Pointer[protocol.Salt] // the catalog's
	readers *readers
	floors  floors
	leaders leaders
	feeds   feeds

	mu         sync.Mutex // guards what follows
	partitions map[uint16]*Partition
	logs       map[uint16]Log
	queues     map[uint16]*queue
	batchers   map[uint16]*batcher

	running context.Context // ends with Close; goroutines of ours hang on it
	stop    context.CancelFunc
	gate    sync.Mutex // no goroutine starts once running has ended
	wg      sync.WaitGroup
}

// New makes a broker without partitions.
func New(o Options) (*Broker, error) {
	b := newBroker(o)
	b.spawn(b.retain)
	b.spawn(b.tidy)
	if b.scrubRate > 0 {
		b.spawn(b.scrub)
	}
	return b, nil
}

// newBroker makes one that keeps no house.
func newBroker(o Options) *Broker {
	b := &Broker{
		self: o.Self, dir: o.Dir, peers: o.Peers, log: o.Log, tail: o.TailBytes, now: o.Now,
		scrubRate: o.ScrubRate, onDamage: o.Damaged, fatal: o.Fatal,
		partitions: map[uint16]*Partition{}, logs: map[uint16]Log{}, queues: map[uint16]*queue{},
		batchers: map[uint16]*batcher{}, readers: newReaders(),
	}
	b.salt.Store(new(protocol.Salt))
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	if b.tail == 0 {
		b.tail = defaultTailBytes
	}
	if b.scrubRate == 0 {
		b.scrubRate = defaultScrub
	}
	if b.now == nil {
		b.now = time.Now
	}
	b.feeds.broker = b
	b.catalog.Store(&Catalog{policiesSince: b.now().UnixNano()})
	b.running, b.stop = context.WithCancel(context.Background())
	return b
}

// Close ends the broker's goroutines and closes the partitions' files. Logs
// must be closed before: nothing may be applied any more.
func (b *Broker) Close() error {
	b.gate.Lock()
	b.stop()
	b.gate.Unlock()
	b.wg.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.partitions {
		p.close()
	}
	return nil
}

// spawn runs f, for which Close waits; not at all behind Close, when nobody waits
// for what f would do.
func (b *Broker) spawn(f func()) bool {
	b.gate.Lock()
	defer b.gate.Unlock()
	if b.running.Err() != nil {
		return false
	}
	b.wg.Go(f)
	return true
}

// SetCatalog tells the broker what the meta group has decided.
func (b *Broker) SetCatalog(c *Catalog) {
	own, before, salt := *c, b.catalog.Load(), c.Salt()
	if own.policiesSince = before.policiesSince; own.policiesID() != before.policiesID() {
		own.policiesSince = b.now().UnixNano()
	}
	b.salt.Store(&salt)
	b.catalog.Store(&own)
}

// Partition is the state machine of a replica on this node, made if need be.
func (b *Broker) Partition(id uint16) *Partition {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.partitions[id]
	if p == nil {
		p = newPartition(id, filepath.Join(b.dir, fmt.Sprintf("p%04d", id)), b.tail, b.catalog.Load)
		p.fatal, p.readers, p.now = b.fatal, b.readers, b.now
		b.partitions[id] = p
	}
	return p
}

// OpenPartition says that the replica's log runs.
func (b *Broker) OpenPartition(id uint16, log Log) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.logs[id], b.batchers[id] = log, &batcher{broker: b, log: log}
}

// ClosePartition forgets a replica that was taken from this node, with its
// files. Readers go on at another node's.
func (b *Broker) ClosePartition(id uint16) {
	b.mu.Lock()
	p := b.partitions[id]
	delete(b.partitions, id)
	delete(b.logs, id)
	delete(b.batchers, id)
	b.mu.Unlock()
	if p == nil {
		return
	}
	p.wakeEverybody()
	p.close()
	if err := os.RemoveAll(p.dir); err != nil {
		b.log.Error("files of a removed replica stay behind", "partition", id, "err", err)
	}
}

// Position is how far this node's replica of a partition has come.
func (b *Broker) Position(id uint16) uint64 {
	if p := b.held(id); p != nil {
		return p.end()
	}
	return 0
}

// held is the replica here, however far it has come; nil if there is none.
func (b *Broker) held(id uint16) *Partition {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.partitions[id]
}

func (b *Broker) logOf(id uint16) Log {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.logs[id]
}

// leads gives the partition's batcher if this node leads it, else nil.
func (b *Broker) leads(id uint16) *batcher {
	b.mu.Lock()
	defer b.mu.Unlock()
	if log := b.logs[id]; log == nil || !log.IsLeader() {
		return nil
	}
	return b.batchers[id]
}

// local is the replica to read from, nil if there is none that has caught up.
func (b *Broker) local(id uint16) *Partition {
	b.mu.Lock()
	defer b.mu.Unlock()
	if log := b.logs[id]; log == nil || !log.Current() {
		return nil
	}
	return b.partitions[id]
}

// replicaNodes lists other nodes that hold a partition, the leader first.
func (b *Broker) replicaNodes(id uint16) []string {
	catalog := b.catalog.Load()
	if int(id) >= len(catalog.Partitions) {
		return nil
	}
	var nodes []string
	leader, known := b.Leader(id)
	if known && leader != b.self {
		nodes = append(nodes, leader)
	}
	for _, n := range catalog.Partitions[id] {
		if n != b.self && n != leader {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// callLeader asks the node that leads a partition. The next replica is asked
// only where one surely did nothing.
func (b *Broker) callLeader(ctx context.Context, partition uint16, method uint8, req []byte) (answer []byte, err error) {
	if b.peers == nil {
		return nil, ErrNotLeader
	}
	err = ErrNotLeader
	for _, node := range b.replicaNodes(partition) {
		call, cancel := b.whileLeads(ctx, partition, node)
		answer, err = b.peers.Call(call, node, method, req)
		cancel()
		if err == nil {
			b.leaders.note(partition, node)
		}
		if !nothingDone(err) {
			return answer, err
		}
	}
	return nil, err
}

// nothingDone says whether an error means that a request surely had no effect.
func nothingDone(err error) bool {
	return errors.Is(err, ErrNotLeader) || errors.Is(err, ErrUnreachable)
}

func (b *Broker) replicas() []*Partition {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]*Partition, 0, len(b.partitions))
	for _, p := range b.partitions {
		list = append(list, p)
	}
	return list
}

// ServeCall answers another node's broker.
func (b *Broker) ServeCall(ctx context.Context, _ string, method uint8, req []byte) ([]byte, error) {
	switch method {
	case MethodPublish:
		return b.servePublish(ctx, req)
	case MethodRead:
		return b.serveRead(ctx, req)
	case MethodLive:
		return nil, b.serveLive(req)
	case MethodLeader:
		return b.serveLeader(req)
	case MethodTopics:
		return b.serveTopics(req)
	case MethodConsumer:
		return b.serveConsumer(ctx, req)
	case MethodRestore:
		return b.serveRestore(ctx, req)
	case MethodSum:
		return b.serveSum(req)
	case MethodRecord:
		return b.serveRecord(req)
	case MethodFeedChange:
		return nil, b.serveFeedChange(req)
	}
	return nil, protocol.BadRequest.Errorf("method %d is not known to this version of pushd", method)
}

// ServeStream sends another node's broker what it asks for, until ctx ends or
// there is no more to come.
func (b *Broker) ServeStream(ctx context.Context, _ string, method uint8, req []byte, send func(frame []byte) error) error {
	if method != MethodFeed {
		return protocol.BadRequest.Errorf("stream %d is not known to this version of pushd", method)
	}
	return b.serveFeed(ctx, req, send)
}

func errNotJoined() *protocol.Error {
	return protocol.NoLeader.Errorf("this node has not joined its cluster yet; try again, or another node")
}

func errNoReplica(partition uint16) *protocol.Error {
	return protocol.NoLeader.Errorf("partition %d has no replica here", partition)
}
