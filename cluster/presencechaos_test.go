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
	topic string
	mu    sync.Mutex // guards what follows
	ids   map[string]string
	count int
	wrong string
}

func newMirror(topic string, list protocol.PresenceList) *mirror {
	m := &mirror{topic: topic, ids: map[string]string{}, count: list.Count}
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
	hanging int // a node that answers nobody; 0: none
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
	case n < 40:
		r.sit(i, p)
	case n < 68:
		r.rise(i)
	case n < 76:
		r.rename(i)
	case n < 82:
		r.watchFrom(i, p)
	case n < 87 && !r.cut:
		r.split()
	case n < 90 && r.cut:
		r.net.Heal()
		r.cut = false
	case n < 92 && r.hanging == 0:
		r.hanging = i
		r.hang(i)
	case n < 95:
		r.answer()
	case len(r.at) > 1:
		r.endNode(i, p)
	}
}

func (r *riot) answer() {
	if r.hanging != 0 {
		r.resume(r.hanging)
		r.hanging = 0
	}
}

// endNode kills a node, or lets it stop in an orderly way; it may be back before
// anybody has noticed.
func (r *riot) endNode(i int, p *Presence) {
	if r.chance.IntN(3) == 0 {
		_ = p.cluster.Leave(r.Context())
	}
	r.kill(i)
	r.seats[i], r.mirrors[i] = nil, nil
	if r.chance.IntN(2) == 0 {
		r.startNode(i)
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
		m.tell(c)
	})
	made := newMirror(topic, list)
	ready <- made
	r.mirrors[i] = append(r.mirrors[i], made)
}

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

// wrong says what the living nodes, and who watches there, have not got right.
func (r *riot) wrong() error {
	for _, topic := range riotTopics {
		want, said := r.truth(topic), ""
		for i := 1; i <= r.nodes; i++ {
			p := r.node(i)
			if p == nil {
				continue
			}
			if got := r.who(i, topic); got != want {
				return fmt.Errorf("n%d: %s: got %q, want %q", i, topic, got, want)
			}
			l := p.List(r.Context(), topic, "", 1000)
			if got := string(protocol.AppendPresence(nil, &l)); said == "" {
				said = got
			} else if got != said {
				return fmt.Errorf("n%d: got %s, want what another node says: %s", i, got, said)
			}
			if got, want := p.Count(r.Context(), topic), l.Count; got != want {
				return fmt.Errorf("n%d: %s: got count %d, want %d", i, topic, got, want)
			}
			for _, m := range r.mirrors[i] {
				if m.topic == topic && (m.text() != newMirror(topic, l).text() || m.wrong != "") {
					return fmt.Errorf("n%d: a watcher of %s was told of %q, want %q (%s)", i, topic, m.text(), newMirror(topic, l).text(), m.wrong)
				}
			}
		}
	}
	return nil
}

// play goes on for some steps, and then with the network split, if it is to be.
func (r *riot) play(steps int, split time.Duration) {
	for range steps {
		r.step()
		time.Sleep(time.Duration(r.chance.Int64N(int64(time.Second))))
	}
	if split > 0 {
		r.split()
		for range 20 {
			r.step()
			time.Sleep(split / 20)
		}
	}
	r.answer()
	r.net.Heal()
}

const riotHealsWithin = 20 * time.Second

// TestAfterAnyRiotAllNodesAgreeOnTheTruth plays random faults in fake time: 5 %
// of packets lost, as many doubled and delayed, 5 % of questions or answers lost,
// nodes that hang, splits, kills, orderly stops and restarts. Most worlds are
// small, so that there can be many.
func TestAfterAnyRiotAllNodesAgreeOnTheTruth(t *testing.T) {
	const groups = 4
	for group := range uint64(groups) {
		t.Run(fmt.Sprint("group ", group), func(t *testing.T) {
			t.Parallel()
			for seed := group; seed < riotSeeds() && !t.Failed(); seed += groups {
				nodes, steps, split := 3, 40, time.Duration(0)
				switch {
				case seed%100 == 7:
					nodes, steps = 7, 200
				case seed%20 == 3:
					nodes, steps = 4, 150
				case seed%25 == 1:
					split = 4 * time.Minute
				}
				playRiot(t, seed, nodes, steps, split)
			}
		})
	}
}

func riotSeeds() uint64 {
	if os.Getenv("PUSHD_CHAOS") == "long" {
		return 20_000
	}
	return 1000
}

func playRiot(t *testing.T, seed uint64, nodes, steps int, split time.Duration) {
	inSeededCrowd(t, nodes, seed+1, 0.05, func(c *crowd) {
		r := &riot{crowd: c, chance: rand.New(rand.NewPCG(seed, 1)), nodes: nodes, seats: map[int][]*seatedMember{}, mirrors: map[int][]*mirror{}}
		r.play(steps, split)
		err := r.wrong()
		for ended := time.Now(); err != nil && time.Since(ended) < riotHealsWithin; err = r.wrong() {
			time.Sleep(500 * time.Millisecond)
		}
		if err != nil {
			c.Errorf("seed %d: %v after the riot: %v", seed, riotHealsWithin, err)
		}
	})
}
