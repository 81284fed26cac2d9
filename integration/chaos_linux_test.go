package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/integration/netns"
	"github.com/pushd/pushd/protocol/client"
)

// TestChaosEveryAcknowledgedEventReachesEveryReaderOnce has nodes killed, frozen,
// cut off, stopped and short of disk, at times all of them, while publishers
// publish in each way and readers follow over each delivery system, some of which
// change it, and the node, all the time. At the end every reader must have had
// every acknowledged event once and in order, every node must have the same
// history, and webhooks everything at least once.
//
// PUSHD_CHAOS=long goes on for PUSHD_CHAOS_MINUTES (10); PUSHD_SEED repeats the
// faults of another run.
func TestChaosEveryAcknowledgedEventReachesEveryReaderOnce(t *testing.T) {
	t.Parallel()
	if !netns.Inside(t) {
		return
	}
	c := newChaos(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	hooks := newReceiverAt(t, c.net.Here().String(), nil)
	hook := c.nodes[0].register(hooks, `"topics":["chaos.0","chaos.1"],"ordering":"ordered"`)
	load := c.startPublishers(ctx) // behind it: a webhook is sent what comes from then on
	readers := newTally()
	vias := []client.Via{client.WebSocket, client.SSE, client.LongPoll, client.Poll}
	for i, via := range vias {
		readers.follow(t, ctx, c.nodes, i, via, "chaos.*")
	}
	readers.wander(t, ctx, c.nodes, 1, "chaos.*", vias, 50)
	readers.wander(t, ctx, c.nodes, 2, "chaos.*", vias, 7)
	load.waitFor(100)
	c.run()
	load.waitFor(load.acked.Load() + 100)
	published := load.stop()
	t.Logf("%d events published, slowest publish %v", total(published), load.worst.Round(time.Millisecond))
	readers.want(t, published)
	hooks.wantAll(c.nodes[0], hook.ID, numbers(published, "chaos.0", "chaos.1"), len(c.happened)*8*settledWindow, true)
	c.wantEqualHistories()
	for _, p := range c.nodes {
		if said := p.stderr.String(); strings.Contains(said, "panic:") || strings.Contains(said, "DATA RACE") {
			t.Errorf("%s: log has a panic or a race", p.name)
		}
	}
}

// numbers are the events of some topics, as a receiver counts them.
func numbers(published map[string]int, topics ...string) map[string]bool {
	all := map[string]bool{}
	for _, topic := range topics {
		for n := range published[topic] {
			all[fmt.Sprint(topic, "/", n)] = true
		}
	}
	return all
}

// chaos is a lab in which things go wrong.
type chaos struct {
	*lab
	chance   *rand.Rand
	began    time.Time
	happened []string
	faults   map[*process]func() // what goes wrong at a node now: how to mend it
}

func newChaos(t *testing.T) *chaos {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("PUSHD_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("PUSHD_SEED: %v", err)
		}
	}
	t.Logf("PUSHD_SEED=%d", seed)
	l := newLab(t, 3, append(openFlags, "--min-free-mib", "24")...)
	for _, p := range l.nodes {
		p.dir = smallDisk(t, 1024)
	}
	l.start()
	l.nodes[0].put("/v1/policies/chaos.*", `{"max_events":10000000,"max_bytes":1073741824}`)
	return &chaos{lab: l, chance: rand.New(rand.NewPCG(seed, 1)), began: time.Now(), faults: map[*process]func(){}}
}

// startPublishers has topics published to one by one, over WebSockets and by
// the batch, each at a steady pace.
func (c *chaos) startPublishers(ctx context.Context) *load {
	l := newLoad()
	pace := func(each time.Duration, send func([]client.Message) error) func([]client.Message) error {
		return func(list []client.Message) error {
			<-time.After(each)
			return send(list)
		}
	}
	const patience = 2 * time.Minute
	for i := range 3 {
		web := newPatientClient(c.t, c.nodes, i, patience)
		l.publish(c.t, fmt.Sprint("chaos.", i), 1, pace(20*time.Millisecond, func(list []client.Message) error {
			_, err := web.Publish(ctx, list[0])
			return err
		}))
		socket := newPatientClient(c.t, c.nodes, i, patience).Publisher()
		c.t.Cleanup(socket.Close)
		l.publish(c.t, fmt.Sprint("chaos.ws", i), 1, pace(20*time.Millisecond, func(list []client.Message) error {
			_, err := socket.Publish(ctx, list[0])
			return err
		}))
		batch := newPatientClient(c.t, c.nodes, i, patience)
		l.publish(c.t, fmt.Sprint("chaos.batch", i), 10, pace(200*time.Millisecond, func(list []client.Message) error {
			_, err := batch.PublishAll(ctx, list)
			return err
		}))
	}
	return l
}

// run lets things go wrong, and mends them all at the end.
func (c *chaos) run() {
	c.t.Helper()
	if !longChaos() {
		for i, f := range calamities {
			c.strike(f, c.nodes[i%len(c.nodes)])
			<-time.After(700 * time.Millisecond)
			c.mendAll()
		}
		c.waitWhole()
		return
	}
	minutes, err := strconv.Atoi(os.Getenv("PUSHD_CHAOS_MINUTES"))
	if err != nil {
		minutes = 10
	}
	for end := time.Now().Add(time.Duration(minutes) * time.Minute); time.Now().Before(end); {
		c.episode()
	}
}

// episode is one to four faults, one after the other or at once, for a while that
// is mostly short; then everything is mended, and at times waited for.
func (c *chaos) episode() {
	c.t.Helper()
	for range 1 + c.chance.IntN(4) {
		p := c.nodes[c.chance.IntN(len(c.nodes))]
		if mend := c.faults[p]; mend != nil && c.chance.IntN(2) == 0 {
			mend()
			delete(c.faults, p)
		} else if mend == nil {
			c.strike(calamities[c.chance.IntN(len(calamities))], p)
		}
		longest := []int{50, 500, 2000, 8000}[c.chance.IntN(4)]
		<-time.After(time.Duration(c.chance.IntN(longest)) * time.Millisecond)
	}
	c.mendAll()
	if c.chance.IntN(3) == 0 {
		began := time.Now()
		c.waitWhole()
		c.note(fmt.Sprint("whole after ", time.Since(began).Round(time.Millisecond)))
	}
}

func (c *chaos) strike(f calamity, p *process) {
	c.t.Helper()
	c.note(f.name + " " + p.name)
	c.faults[p] = f.happen(c, p)
}

func (c *chaos) mendAll() {
	c.t.Helper()
	for _, p := range c.nodes {
		if mend := c.faults[p]; mend != nil {
			mend()
		}
	}
	clear(c.faults)
	c.net.Heal()
	c.note("mended")
}

func (c *chaos) note(what string) {
	c.t.Helper()
	c.happened = append(c.happened, what)
	c.t.Logf("%8.3f s: %s", time.Since(c.began).Seconds(), what)
}

// wantEqualHistories compares what each node says that there is.
func (c *chaos) wantEqualHistories() {
	c.t.Helper()
	c.nodes[0].waitWhole(3)
	want := c.nodes[0].history()
	for _, p := range c.nodes[1:] {
		if got := p.history(); !slices.Equal(got, want) {
			c.t.Errorf("%s has %d events that differ from the %d of %s", p.name, len(got), len(want), c.nodes[0].name)
		}
	}
}
