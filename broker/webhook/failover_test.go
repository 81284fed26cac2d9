package webhook

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// slowly answers 200 after a while, unless the request is given up.
func slowly(d time.Duration) answerer {
	return func(r request) (int, http.Header, error) {
		select {
		case <-time.After(d):
			return 200, nil, nil
		case <-r.ctx.Done():
			return 0, nil, r.ctx.Err()
		}
	}
}

// publishSteadily publishes n events to five topics until all are stored.
func (c *cluster) publishSteadily(n int, every time.Duration) {
	for i := range n {
		c.publish(fmt.Sprint("t", i%5), fmt.Sprint(i))
		time.Sleep(every)
	}
}

// counted is how often each event came, and how many came more than once.
func (c *cluster) counted(host string) (times map[string]int, again int) {
	times = map[string]int{}
	ids := map[string]string{}
	for _, r := range c.world.requests(host) {
		what := r.topic + "/" + r.body
		times[what]++
		if id, known := ids[what]; known && id != r.id {
			c.t.Errorf("%s came as %s and as %s", what, id, r.id)
		}
		ids[what] = r.id
	}
	for _, n := range times {
		again += n - 1
	}
	return times, again
}

func TestACrashOfTheLeaderLosesNothingAndRepeatsNoMoreThanTheWindow(t *testing.T) {
	for _, ordering := range []string{orderingParallel, orderingOrdered} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, 2, trusting)
			defer c.close()
			c.world.serve("a.example", slowly(3*time.Millisecond))
			w := c.create(protocol.WebhookSpec{Ordering: ordering})
			go c.publishSteadily(4000, time.Millisecond)
			const crashes = 5
			for range crashes {
				time.Sleep(700 * time.Millisecond)
				old := c.nodes[len(c.nodes)-1]
				old.leads.Store(false)
				old.d.Close()
				c.start(trusting)
			}
			time.Sleep(time.Minute)
			times, again := c.counted("a.example")
			if len(times) != 4000 {
				t.Errorf("%s: got %d of 4000 events", ordering, len(times))
			}
			if most := crashes * 2 * (window + defaultConcurrency); again > most {
				t.Errorf("%s: %d came again, want at most %d", ordering, again, most)
			}
			if lag := c.get(w.ID).Lag.Events; lag != 0 {
				t.Errorf("%s: lag %d, want 0", ordering, lag)
			}
		})
	}
}

func TestAPlannedMoveRepeatsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, trusting)
		defer c.close()
		c.world.serve("a.example", slowly(5*time.Millisecond))
		c.create(protocol.WebhookSpec{})
		go c.publishSteadily(4000, time.Millisecond)
		for range 5 {
			time.Sleep(700 * time.Millisecond)
			old := c.nodes[len(c.nodes)-1]
			for p := range c.logs {
				old.d.Drain(context.Background(), uint16(p))
			}
			old.leads.Store(false)
			c.start(trusting)
		}
		time.Sleep(time.Minute)
		if times, again := c.counted("a.example"); len(times) != 4000 || again != 0 {
			t.Errorf("got %d of 4000 events, %d of them again; want all, once", len(times), again)
		}
	})
}

func TestAMoveThatDoesNotComeAboutGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, trusting)
		defer c.close()
		c.create(protocol.WebhookSpec{})
		time.Sleep(time.Second)
		c.Drain(context.Background(), 0)
		c.publish("a", "0")
		time.Sleep(time.Second)
		if n := len(c.world.requests("a.example")); n != 0 {
			t.Errorf("%d requests while the partition is being handed over", n)
		}
		c.Reopen(0)
		time.Sleep(time.Second)
		wantStrings(t, "sent", c.world.bodies("a.example"), []string{"0"})
	})
}

func TestALeaderThatIsNoMoreSendsNothingBehindTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, trusting)
		defer c.close()
		var second atomic.Bool
		var late atomic.Int32
		c.world.serve("a.example", func(r request) (int, http.Header, error) {
			behind := second.Load()
			status, h, err := slowly(200 * time.Millisecond)(r)
			if err == nil && !behind && second.Load() {
				late.Add(1) // it was under way when the next leader began
			}
			return status, h, err
		})
		c.create(protocol.WebhookSpec{Ordering: orderingOrdered})
		go c.publishSteadily(500, 10*time.Millisecond)
		time.Sleep(2 * time.Second)
		c.nodes[0].leads.Store(false) // cut off; it goes on running
		time.Sleep(2 * pollPeriod)
		second.Store(true)
		c.start(trusting)
		time.Sleep(5 * time.Minute)
		if n := late.Load(); n > 0 {
			t.Errorf("%d requests of the old leader ended behind the next one's begin", n)
		}
		last := map[string]int{}
		for _, r := range c.world.requests("a.example") {
			var n int
			_, _ = fmt.Sscan(r.body, &n)
			if n < last[r.topic]-5 {
				t.Errorf("%s: %d came behind %d", r.topic, n, last[r.topic])
			}
			last[r.topic] = max(last[r.topic], n)
		}
		if times, _ := c.counted("a.example"); len(times) != 500 {
			t.Errorf("got %d of 500 events", len(times))
		}
	})
}

func TestProgressThatWasRefusedIsSentAgainAndTheWindowOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, trusting)
		defer c.close()
		c.create(protocol.WebhookSpec{})
		time.Sleep(time.Second)
		c.logs[0].refuse.Store(20)
		c.publishMany("a", 1000)
		time.Sleep(100 * time.Millisecond)
		if n := len(c.world.requests("a.example")); n != window {
			t.Errorf("%d requests while progress can't be stored, want %d", n, window)
		}
		time.Sleep(time.Minute)
		if times, again := c.counted("a.example"); len(times) != 1000 || again != 0 {
			t.Errorf("got %d of 1000 events, %d again", len(times), again)
		}
	})
}

func TestAClockThatWasElsewhereDelaysARetryByNoMoreThanItsStep(t *testing.T) {
	now := time.Now()
	for _, skew := range []time.Duration{-time.Hour, 0, time.Hour} {
		c := broker.Consumer{ID: "x", State: broker.ConsumerState{Floor: 9, Open: []broker.OpenEvent{
			{Position: 3, Attempts: 3, First: now.Add(skew).UnixMilli(), Next: now.Add(skew + 18*time.Second).UnixMilli()},
		}}}
		n := newLane(&endpoint{target: &target{concurrency: 8}}, &lead{}, c, false, now)
		if due := time.UnixMilli(n.due()).Sub(now); due > 18*time.Second*12/10 {
			t.Errorf("clock off by %v: due in %v, want at most 21.6 s", skew, due)
		}
	}
}

func TestARegistrationGetsEveryEventThatIsPublishedBehindIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 4, trusting)
		defer c.close()
		var behind atomic.Bool
		done := make(chan map[string]bool)
		go func() {
			sent := map[string]bool{}
			for i := range 2000 {
				topic, after := fmt.Sprint("t", i%16), behind.Load()
				c.publish(topic, fmt.Sprint(i))
				if after {
					sent[topic+"/"+fmt.Sprint(i)] = true
				}
				time.Sleep(100 * time.Microsecond)
			}
			done <- sent
		}()
		time.Sleep(50 * time.Millisecond)
		w := c.create(protocol.WebhookSpec{})
		behind.Store(true)
		want := <-done
		time.Sleep(time.Minute)
		times, _ := c.counted("a.example")
		for what := range want {
			if times[what] == 0 {
				t.Errorf("%s was published behind the registration and never sent", what)
			}
		}
		if err := c.Delete(context.Background(), w.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		before := len(c.world.requests("a.example"))
		c.publish("t1", "late")
		time.Sleep(time.Minute)
		if n := len(c.world.requests("a.example")); n != before {
			t.Errorf("a deleted webhook got %d more requests", n-before)
		}
		for p := range c.logs {
			if list := c.broker.Consumers(uint16(p)); len(list) != 0 {
				t.Errorf("partition %d still has consumers: %+v", p, list)
			}
		}
	})
}

func TestConsumersThatAreNobodysAreSweptAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, trusting)
		defer c.close()
		w := c.create(protocol.WebhookSpec{})
		_, err := c.broker.Consumer(context.Background(), broker.ConsumerQuery{ID: "wh_lost", Topics: []string{"**"}, Begin: true, Epoch: 1})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(orphanAge + 2*sweepPeriod)
		list := c.broker.Consumers(0)
		if len(list) != 1 || list[0].ID != w.ID {
			t.Errorf("got %+v, want the webhook's alone", list)
		}
	})
}
