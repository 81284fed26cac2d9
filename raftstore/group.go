package raftstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

const never = 10 * 365 * 24 * time.Hour

// Group is this node's replica of one replicated log.
type Group struct {
	id        uint16
	store     *Store
	log       *groupLog
	snapshots *snapshots
	port      *port
	machine   *machine
	raft      *raft.Raft
	closed    chan struct{}
	observer  *raft.Observer
	changes   chan struct{} // capacity 1

	wantsSnapshot atomic.Bool
	rotten        atomic.Pointer[error] // why the replica was quarantined
	handovers     handovers
	ending        sync.Once
}

func openGroup(s *Store, id uint16, sm StateMachine, bootstrap []string) (*Group, error) {
	g := &Group{id: id, store: s, closed: make(chan struct{}), changes: make(chan struct{}, 1)}
	g.log = s.wal.group(id)
	known := g.log != nil
	if !known {
		g.log = newGroupLog(id, s.wal)
	}
	var err error
	if g.snapshots, err = openSnapshots(s.opts.FS, s.opts.Dir, s.groupPath(id), g.log.snapshotted); err != nil {
		return nil, err
	}
	if err := g.checkComplete(known); err != nil {
		return nil, err
	}
	g.log.watch(nil)
	s.wal.join(g.log)
	fresh := false
	if bootstrap != nil {
		if fresh, err = g.bootstrap(bootstrap); err != nil {
			return nil, err
		}
	}
	incarnation, err := g.incarnate(known || bootstrap != nil)
	if err != nil {
		return nil, err
	}
	g.port = newPort(s.mux, g.log, g, incarnation)
	g.machine = &machine{group: g, sm: sm}
	if g.raft, err = raft.NewRaft(g.config(), g.machine, g.log, g.log, g.snapshots, g.port); err != nil {
		g.port.cancel()
		return nil, cmpErr(g.machine.failed, cmpErr(g.log.unreadable(), err)) // hashicorp/raft keeps these to itself
	}
	g.log.watch(g.Quarantine)
	g.observer = raft.NewObserver(nil, false, g.observe)
	g.raft.RegisterObserver(g.observer)
	if !g.port.open() {
		return nil, errors.Join(ErrClosed, g.raft.Shutdown().Error())
	}
	if r := g.Replicas(); len(r) > 0 && r[0].NodeID == s.opts.NodeID && (len(r) == 1 || fresh) {
		s.mux.spawn(g.port.inject) // nobody else can lead yet: do not wait for HeartbeatTimeout
	}
	return g, nil
}

// incarnate returns the replica's incarnation, a new one if it begins with nothing.
func (g *Group) incarnate(begun bool) (uint32, error) {
	key := []byte(keyIncarnation)
	n, err := g.log.GetUint64(key)
	if err == nil && n == 0 && !begun {
		n = uint64(newIncarnation())
		// It need not wait: the log is ordered, and no vote counts before it is on disk.
		_ = g.log.put(keyIncarnation, binary.LittleEndian.AppendUint64(nil, n))
	}
	return uint32(n), err
}

// checkComplete makes sure that log and snapshot together are the whole group.
func (g *Group) checkComplete(known bool) error {
	m := g.snapshots.newest()
	if m == nil {
		m = &manifest{}
	}
	g.log.mu.Lock()
	defer g.log.mu.Unlock()
	if !known && m.Index > 0 {
		return fmt.Errorf("%w: there is a snapshot at index %d but the log does not know the group, so its vote is lost", ErrDamaged, m.Index)
	}
	if g.log.first > m.Index+1 {
		return fmt.Errorf("%w: the log begins at index %d but the newest snapshot ends at %d", ErrDamaged, g.log.first, m.Index)
	}
	g.log.noteSnapshot(m.Index)
	return nil
}

// bootstrap writes the first configuration, unless the group has state. A crash in the middle leaves a term of one,
// in which nobody can have voted.
func (g *Group) bootstrap(voters []string) (done bool, err error) {
	term, err := g.log.GetUint64([]byte(keyCurrentTerm))
	if err != nil {
		return false, err
	}
	last, _ := g.log.LastIndex()
	voteTerm, err := g.log.GetUint64([]byte(keyLastVoteTerm))
	if err != nil || last > 0 || term > 1 || voteTerm > 0 || g.snapshots.newest() != nil {
		return false, err
	}
	var c raft.Configuration
	for _, node := range slices.Sorted(slices.Values(voters)) {
		c.Servers = append(c.Servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(node), Address: raft.ServerAddress(node)})
	}
	_ = g.log.put(keyCurrentTerm, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	return true, g.log.StoreLog(&raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(c)})
}

func (g *Group) config() *raft.Config {
	o := g.store.opts
	return &raft.Config{
		ProtocolVersion:    raft.ProtocolVersionMax,
		HeartbeatTimeout:   o.HeartbeatTimeout,
		ElectionTimeout:    o.ElectionTimeout,
		CommitTimeout:      o.CommitTimeout,
		LeaderLeaseTimeout: o.HeartbeatTimeout * 4 / 5,
		MaxAppendEntries:   maxAppendEntries,
		BatchApplyCh:       true,
		// Snapshots are taken and the log is trimmed by bytes, by the store.
		TrailingLogs:      math.MaxUint64,
		SnapshotInterval:  never,
		SnapshotThreshold: math.MaxUint64,
		LocalID:           raft.ServerID(g.port.id()),
		Logger:            newRaftLogger(o.Log, g.id),
		NoLegacyTelemetry: true,
	}
}

// end has calls on the group return.
func (g *Group) end() { g.ending.Do(func() { close(g.closed) }) }

func (g *Group) close() {
	g.end()
	g.port.close()
	_ = g.raft.Shutdown().Error() // always nil
	g.raft.DeregisterObserver(g.observer)
}

// ID returns the group's id.
func (g *Group) ID() uint16 { return g.id }

// Propose appends an entry to the log and returns what the machine's Apply returned for it here. data must not be
// modified any more.
//
// ErrNotLeader, ErrTooLarge, ErrDiskFull, ErrClosed and an error of ctx alone say that the entry surely was not proposed.
// ErrOutcomeUnknown says that it may be applied or not.
func (g *Group) Propose(ctx context.Context, data []byte) (any, error) {
	if len(data) > MaxEntryBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are possible", ErrTooLarge, len(data), MaxEntryBytes)
	}
	if err := g.refuse(ctx); err != nil {
		return nil, err
	}
	if err := g.store.wal.disk.refusal(roomNone); err != nil {
		return nil, err
	}
	f := g.raft.Apply(data, timeout(ctx))
	if err := g.await(ctx, f); err != nil {
		return nil, g.outcome(err)
	}
	result := f.Response()
	if failed, ok := result.(notApplied); ok {
		return nil, fmt.Errorf("%w: %w", ErrOutcomeUnknown, failed.err)
	}
	return result, nil
}

// refuse returns why a call need not begin.
func (g *Group) refuse(ctx context.Context) error {
	select {
	case <-g.closed:
		return ErrClosed
	default:
	}
	if err := g.store.wal.failed(); err != nil {
		return err
	}
	return ctx.Err()
}

// timeout returns how long ctx allows, 0 for ever.
func timeout(ctx context.Context) time.Duration {
	if at, ok := ctx.Deadline(); ok {
		return max(time.Until(at), time.Nanosecond)
	}
	return 0
}

// await waits for a future of hashicorp/raft. Some are never answered when raft shuts down, so it can not wait for the
// goroutine, which then ends with the process.
func (g *Group) await(ctx context.Context, f raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-g.closed:
		return ErrClosed
	}
}

// outcome says what a failed proposal means.
func (g *Group) outcome(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return ErrNotLeader
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return fmt.Errorf("the leader is too busy to take the entry: %w", context.DeadlineExceeded)
	}
	return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
}

// Leader returns the node that this replica takes for the leader.
func (g *Group) Leader() (nodeID string, known bool) {
	_, id := g.raft.LeaderWithID()
	nodeID, _ = splitReplicaID(string(id))
	return nodeID, id != ""
}

// IsLeader reports whether this replica leads, as far as it knows; VerifyLeader makes sure.
func (g *Group) IsLeader() bool { return g.raft.State() == raft.Leader }

// Barrier returns when all entries that were committed before are applied here. Only a leader can tell.
func (g *Group) Barrier(ctx context.Context) error {
	if err := g.refuse(ctx); err != nil {
		return err
	}
	return g.plain(g.await(ctx, g.raft.Barrier(timeout(ctx))))
}

// VerifyLeader returns nil if a quorum still takes this replica for the leader.
func (g *Group) VerifyLeader(ctx context.Context) error {
	if err := g.refuse(ctx); err != nil {
		return err
	}
	if !g.IsLeader() {
		return ErrNotLeader
	}
	return g.plain(g.await(ctx, g.raft.VerifyLeader()))
}

// plain is outcome for calls that change nothing.
func (g *Group) plain(err error) error {
	if errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipLost) || errors.Is(err, raft.ErrLeadershipTransferInProgress) {
		return ErrNotLeader
	}
	if errors.Is(err, raft.ErrRaftShutdown) {
		return ErrClosed
	}
	return err
}

// Applied returns the index of the newest entry that the machine has applied. Entries of Raft's own between commands
// do not count.
func (g *Group) Applied() uint64 { return g.machine.applied.Load() }

// LastIndex returns the last index of the log here, committed or not.
func (g *Group) LastIndex() uint64 { return g.raft.LastIndex() }

// Term returns the current term.
func (g *Group) Term() uint64 { return g.raft.CurrentTerm() }

// Progress returns, on the leader, how far each follower has come.
func (g *Group) Progress() map[string]Progress {
	if !g.IsLeader() {
		return nil
	}
	of := map[string]Progress{}
	byID := g.port.progress(g.Term())
	for _, r := range g.Replicas() {
		if p, ok := byID[r.ID]; ok {
			of[r.NodeID] = p
		}
	}
	return of
}

// Changes gets a signal after the leader or the configuration changed.
func (g *Group) Changes() <-chan struct{} { return g.changes }

func (g *Group) changed() {
	select {
	case g.changes <- struct{}{}:
	default:
	}
}

// observe is called by hashicorp/raft, on its goroutines, with each observation.
func (g *Group) observe(o *raft.Observation) bool {
	switch o.Data.(type) {
	case raft.LeaderObservation, raft.RaftState, raft.PeerObservation:
		g.changed()
	}
	return false
}

// Snapshot takes a snapshot and trims the log.
func (g *Group) Snapshot() error {
	g.wantsSnapshot.Store(false)
	err := g.raft.Snapshot().Error()
	switch {
	case errors.Is(err, raft.ErrNothingNewToSnapshot):
		return nil
	case errors.Is(err, raft.ErrRaftShutdown):
		return ErrClosed
	case err != nil:
		g.wantsSnapshot.Store(true)
	}
	return err
}

// retake asks for a snapshot of this replica's own in place of a received one, which can not be passed on.
func (g *Group) retake() {
	g.wantsSnapshot.Store(true)
	g.store.wakeKeeping()
}

// fetch begins to receive attachments; only one leader at a time can send them.
func (g *Group) fetch() (*fetch, error) {
	if !g.snapshots.fetching.TryLock() {
		return nil, fmt.Errorf("group %d is receiving a snapshot already", g.id)
	}
	held := func(string) string { return "" }
	if h, ok := g.machine.sm.(Holder); ok {
		held = h.Held
	}
	aside := func(name string) (string, error) { return g.store.quarantined(groupDir(g.id) + "-" + name) }
	return &fetch{snapshots: g.snapshots, held: held, aside: aside, arrived: map[string]int64{}}, nil
}

func (g *Group) committed() uint64 { return g.raft.CommitIndex() }

func (g *Group) following() (leader string, term uint64, ok bool) {
	leader, known := g.Leader()
	return leader, g.raft.CurrentTerm(), known && g.raft.State() == raft.Follower
}

func (g *Group) leaderless() (term uint64, state raft.RaftState) {
	term, state = g.raft.CurrentTerm(), g.raft.State()
	_, known := g.Leader()
	if _, voter := g.rank(""); known || !voter {
		state = raft.Shutdown
	}
	return term, state
}
