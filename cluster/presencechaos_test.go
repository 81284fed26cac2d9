package cluster

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
)

// mirror keeps a topic's members by what it is told, as a client would.
type mirror struct {
	mu    sync.Mutex // guards what follows
	ids   map[string]string
	count int
	wrong string
}

func newMirror(list protocol.PresenceList) *mirror {
	m := &mirror{ids: map[string]string{}, count: list.Count}
	m.add(list.Members)
	return m
}

func (m *mirror) add(list []protocol.Member) {
	for _, x := range list {
		m.ids[x.ID] = string(x.Info)
	}
}

func (m *mirror) tell(c *protocol.PresenceChange) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.Members != nil {
		clear(m.ids)
	}
	m.add(c.Members)
	m.add(c.Joined)
	m.add(c.Updated)
	for _, x := range c.Left {
		delete(m.ids, x.ID)
	}
	if m.count = c.Count; m.count != len(m.ids) {
		m.wrong = fmt.Sprintf("%s: told of %d members, count %d", changeText(c), len(m.ids), c.Count)
	}
}

func (m *mirror) text() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for id, info := range m.ids {
		out = append(out, id+info)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// riot is a crowd under random faults, and the truth about it.
type riot struct {
	*crowd
	chance  *rand.Rand
	nodes   int
	seats   map[int][]*seatedMember // by node
	mirrors map[int][]*mirror
	cut     bool
}

type seatedMember struct {
	attendance *Attendance
	topic, id  string
}

var riotTopics = []string{"room", "hall"}

func (r *riot) anyNode() int { return 1 + r.chance.IntN(r.nodes) }

func (r *riot) step() {
	i := r.anyNode()
	p := r.node(i)
	switch n := r.chance.IntN(100); {
	case p == nil:
		if r.chance.IntN(3) == 0 {
			r.startNode(i)
		}
	case n < 45:
		r.sit(i, p)
	case n < 75:
		r.rise(i)
	case n < 82:
		r.rename(i)
	case n < 86:
		r.watchFrom(i, p)
	case n < 90 && !r.cut:
		r.split()
	case n < 94 && r.cut:
		r.net.Heal()
		r.cut = false
	case n < 96 && len(r.at) > 2:
		r.kill(i)
		r.seats[i], r.mirrors[i] = nil, nil
	}
}

func (r *riot) sit(i int, p *Presence) {
	s := &seatedMember{topic: riotTopics[r.chance.IntN(len(riotTopics))], id: fmt.Sprint("m", r.chance.IntN(6))}
	s.attendance, _ = joinOne(r.Context(), p, s.topic, s.id, nil, nil)
	r.seats[i] = append(r.seats[i], s)
}

func (r *riot) rise(i int) {
	if len(r.seats[i]) == 0 {
		return
	}
	at := r.chance.IntN(len(r.seats[i]))
	r.seats[i][at].attendance.Leave(time.Duration(r.chance.IntN(2)) * 3 * time.Second)
	r.seats[i] = slices.Delete(r.seats[i], at, at+1)
}

func (r *riot) rename(i int) {
	if len(r.seats[i]) > 0 {
		r.seats[i][r.chance.IntN(len(r.seats[i]))].attendance.Update(fmt.Append(nil, r.chance.IntN(100)))
	}
}

func (r *riot) watchFrom(i int, p *Presence) {
	if len(r.mirrors[i]) >= 3 {
		return
	}
	topic := riotTopics[r.chance.IntN(len(riotTopics))]
	ready := make(chan *mirror, 1)
	var m *mirror
	var once sync.Once
	_, list := joinOne(r.Context(), p, topic, "", nil, func(c *protocol.PresenceChange) {
		once.Do(func() { m = <-ready }) // the first change may come before Join has returned
		if c.Topic == topic {
			m.tell(c)
		}
	})
	made := newMirror(list)
	ready <- made
	made.wrong = ""
	r.mirrors[i] = append(r.mirrors[i], made)
	mirrorTopics.Store(made, topic)
}

var mirrorTopics sync.Map

func (r *riot) split() {
	var one, other []string
	for i := 1; i <= r.nodes; i++ {
		if r.chance.IntN(2) == 0 {
			one = append(one, ip(i))
		} else {
			other = append(other, ip(i))
		}
	}
	r.net.Cut(one, other)
	r.cut = true
}

// truth is who is in a topic, by what every node was told.
func (r *riot) truth(topic string) string {
	nodes := map[string]map[string]int{}
	for i, list := range r.seats {
		for _, s := range list {
			if s.topic == topic {
				if nodes[s.id] == nil {
					nodes[s.id] = map[string]int{}
				}
				nodes[s.id][fmt.Sprint("n", i)]++
			}
		}
	}
	var out []string
	for id, at := range nodes {
		total := 0
		var names []string
		for n, k := range at {
			total += k
			names = append(names, n)
		}
		slices.Sort(names)
		out = append(out, fmt.Sprintf("%s:%d@%s", id, total, strings.Join(names, "+")))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func (r *riot) check(seed uint64) {
	for _, topic := range riotTopics {
		want := r.truth(topic)
		for i := 1; i <= r.nodes; i++ {
			if r.node(i) == nil {
				continue
			}
			if got := r.who(i, topic); got != want {
				r.Errorf("seed %d: n%d: %s: got %q, want %q", seed, i, topic, got, want)
			}
			for _, m := range r.mirrors[i] {
				r.checkMirror(seed, i, topic, m)
			}
		}
	}
}

func (r *riot) checkMirror(seed uint64, i int, topic string, m *mirror) {
	if of, _ := mirrorTopics.Load(m); of != topic {
		return
	}
	l := r.node(i).List(r.Context(), topic, "", 1000)
	if want := newMirror(l).text(); m.text() != want || m.wrong != "" {
		r.Errorf("seed %d: n%d: a watcher of %s was told of %q, want %q (%s)", seed, i, topic, m.text(), want, m.wrong)
	}
}

// TestAfterAnyRiotAllNodesAgreeOnTheTruth plays random faults in fake time: 5 %
// of packets lost, as many doubled and delayed, splits, kills and restarts.
func TestAfterAnyRiotAllNodesAgreeOnTheTruth(t *testing.T) {
	seeds := 25
	if os.Getenv("PUSHD_CHAOS") == "long" {
		seeds = 1000
	}
	for seed := range uint64(seeds) {
		inSeededCrowd(t, 4, seed+1, 0.05, func(c *crowd) {
			r := &riot{crowd: c, chance: rand.New(rand.NewPCG(seed, 1)), nodes: 4, seats: map[int][]*seatedMember{}, mirrors: map[int][]*mirror{}}
			for range 150 {
				r.step()
				time.Sleep(time.Duration(r.chance.Int64N(int64(time.Second))))
			}
			c.net.Heal()
			time.Sleep(30 * time.Second)
			r.check(seed)
		})
		if t.Failed() {
			return
		}
	}
}
