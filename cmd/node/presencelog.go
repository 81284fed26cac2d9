package node

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pushd/pushd/protocol"
)

// recordPrefix begins the names of topics in which presence is recorded.
const recordPrefix = "$presence."

// recorder sees to it that who comes and goes is recorded for topics whose
// policy says so: by the leader of the partition of the record, which watches
// the topic. Nodes with members tell the leader that there is something to
// watch; what was recorded before tells a new leader.
type recorder struct {
	n       *Node
	running context.Context   // records end with it
	wake    chan struct{}     // capacity 1
	told    map[string]string // the leaders that know of topics here; run's own
	wg      sync.WaitGroup

	mu     sync.Mutex // guards what follows
	active map[string]struct{}
	closed bool
}

func newRecorder(running context.Context, n *Node) *recorder {
	return &recorder{n: n, running: running, wake: make(chan struct{}, 1), told: map[string]string{}, active: map[string]struct{}{}}
}

// notice is called when a member joins a topic that is recorded.
func (r *recorder) notice() {
	select {
	case r.wake <- struct{}{}:
	default: // it looks already
	}
}

// run looks for what to record until the node stops.
func (r *recorder) run() {
	defer r.close()
	ctx := r.running
	tick := time.NewTicker(recordPeriod)
	defer tick.Stop()
	var led []uint16
	for round := 0; ctx.Err() == nil; round++ {
		if r.n.recordsAny() {
			r.tellLeaders(ctx, round%recordRounds == 0)
			if now := r.n.ledPartitions(); round%recordRounds == 0 || !slices.Equal(now, led) {
				r.resume(ctx, now)
				led = now
			}
		}
		select {
		case <-ctx.Done():
		case <-r.wake:
		case <-tick.C:
		}
	}
}

func (r *recorder) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.wg.Wait()
}

// recordsAny says whether any policy wants presence recorded.
func (n *Node) recordsAny() bool {
	return slices.ContainsFunc(n.meta.Catalog().Policies, func(p protocol.Policy) bool { return p.Presence == "log" })
}

// records says whether a topic's presence is recorded.
func (n *Node) records(topic string) bool {
	p, _ := n.meta.Catalog().Policy(topic)
	return p.Presence == "log"
}

func (n *Node) ledPartitions() (led []uint16) {
	for _, p := range n.groups.ids() {
		if g, ok := n.groups.get(p); ok && g.IsLeader() {
			led = append(led, p)
		}
	}
	return led
}

// recordLeader is the node that records a topic's presence.
func (n *Node) recordLeader(topic string) (node string, known bool) {
	partitions := len(n.meta.Catalog().Partitions)
	if partitions == 0 {
		return "", false
	}
	return n.broker.Leader(uint16(protocol.TopicHash(recordPrefix+topic) % uint64(partitions)))
}

// tellLeaders tells of topics with members here: those that are new, or whose
// leader is; now and then all.
func (r *recorder) tellLeaders(ctx context.Context, all bool) {
	told := map[string]string{}
	news := map[string][]string{}
	for _, topic := range r.n.presence.Topics() {
		leader, known := r.n.recordLeader(topic)
		if !known || !r.n.records(topic) {
			continue
		}
		if told[topic] = leader; all || r.told[topic] != leader {
			news[leader] = append(news[leader], topic)
		}
	}
	for leader, topics := range news {
		if leader == r.n.home.NodeID {
			r.begin(topics)
			continue
		}
		for part := range slices.Chunk(topics, recordTopics) {
			if err := r.tell(ctx, leader, part); err != nil {
				r.n.log.Debug("leader was not told whose presence to record", "node", leader, "err", err)
				for _, topic := range part {
					delete(told, topic)
				}
			}
		}
	}
	r.told = told
}

func (r *recorder) tell(ctx context.Context, leader string, topics []string) error {
	req, err := json.Marshal(topics)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	_, err = r.n.link.Call(ctx, leader, methodRecord, req)
	return err
}

// serve begins to record what another node has members of.
func (r *recorder) serve(req []byte) error {
	var topics []string
	if err := json.Unmarshal(req, &topics); err != nil || len(topics) > recordTopics {
		return protocol.BadJSON.Errorf("a list of at most %d topics is wanted", recordTopics)
	}
	for _, topic := range topics {
		if err := protocol.CheckTopic(topic); err != nil {
			return err
		}
	}
	r.begin(topics)
	return nil
}

// resume goes on with all records of the partitions that this node leads: who
// is in them may have left while there was no leader.
func (r *recorder) resume(ctx context.Context, led []uint16) {
	if len(led) == 0 {
		return
	}
	for after, more := "", true; more; {
		list, err := r.n.broker.Topics(ctx, recordPrefix, after, protocol.MaxPageEvents)
		if err != nil {
			r.n.log.Debug("records of presence can't be listed", "err", err)
			return
		}
		var topics []string
		for _, t := range list.Topics {
			if slices.Contains(led, t.Partition) {
				topics = append(topics, strings.TrimPrefix(t.Topic, recordPrefix))
			}
		}
		r.begin(topics)
		after, more = list.Next, list.Next != ""
	}
}

// begin starts to record topics that are not recorded yet, if it is for this
// node to do.
func (r *recorder) begin(topics []string) {
	for _, topic := range topics {
		if leader, _ := r.n.recordLeader(topic); leader != r.n.home.NodeID || !r.n.records(topic) {
			continue
		}
		r.mu.Lock()
		if _, runs := r.active[topic]; !runs && !r.closed {
			r.active[topic] = struct{}{}
			r.wg.Go(func() {
				defer r.end(topic)
				newRecord(r.n, topic).run(r.running)
			})
		}
		r.mu.Unlock()
	}
}

func (r *recorder) end(topic string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.active, topic)
}
