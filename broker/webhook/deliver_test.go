package webhook

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

var trusting = Options{NoVerify: true}

func TestEveryEventOfTheTopicsIsSentOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, trusting)
		defer c.close()
		c.publish("a.1", "before")
		w := c.create(protocol.WebhookSpec{Topics: []string{"a.*", "b"}})
		for i := range 100 {
			c.publish(fmt.Sprint("a.", i%7), fmt.Sprint(i))
			c.publish("other", "not for it")
		}
		c.publish("b", "100")
		time.Sleep(time.Second)
		got := c.world.bodies("a.example")
		slices.Sort(got)
		want := numbers(0, 100)
		slices.Sort(want)
		wantStrings(t, "sent", got, want)
		if lag := c.get(w.ID).Lag.Events; lag != 0 {
			t.Errorf("lag: got %d, want 0", lag)
		}
		ids := map[string]bool{}
		for _, r := range c.world.requests("a.example") {
			if strings.Contains(r.id, ".") || ids[r.id] {
				t.Errorf("webhook-id %q has a dot, or stands for two events", r.id)
			}
			ids[r.id] = true
		}
	})
}

func TestOnlyWantedTypesAreSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, trusting)
		defer c.close()
		w := c.create(protocol.WebhookSpec{Types: []string{"made"}})
		for i, kind := range []string{"made", "", "gone", "made"} {
			_, err := c.broker.Publish(context.Background(), &protocol.Publish{Event: protocol.Event{Topic: "a", Type: kind, Data: fmt.Append(nil, i)}})
			if err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		wantStrings(t, "sent", c.world.bodies("a.example"), []string{"0", "3"})
		if lag := c.get(w.ID).Lag.Events; lag != 0 {
			t.Errorf("lag: got %d, want 0", lag)
		}
	})
}

func TestAFailedEventIsSentAgainAfter2And6And18Seconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, trusting)
		defer c.close()
		c.world.serve("a.example", func(r request) (int, http.Header, error) {
			if r.n <= 3 {
				return 500, nil, nil
			}
			return 204, nil, nil
		})
		w := c.create(protocol.WebhookSpec{})
		c.publish("a", "x")
		time.Sleep(time.Minute)
		got := c.world.requests("a.example")
		if len(got) != 4 {
			t.Fatalf("got %d attempts, want 4", len(got))
		}
		for i, want := range []time.Duration{2 * time.Second, 6 * time.Second, 18 * time.Second} {
			d := got[i+1].at.Sub(got[i].at)
			if d < want*8/10 || d > want*12/10+2*timerPeriod {
				t.Errorf("attempt %d came %v after the one before, want %v ± 20 %%", i+2, d, want)
			}
			if got[i+1].id != got[0].id || got[i+1].header.Get("Pushd-Attempt") != fmt.Sprint(i+2) {
				t.Errorf("attempt %d: id %s and number %s, want %s", i+2, got[i+1].id, got[i+1].header.Get("Pushd-Attempt"), got[0].id)
			}
		}
		text := string(c.AppendMetrics(nil))
		for _, want := range []string{"pushd_webhook_attempts_total 4\n", "pushd_webhook_failures_total 3\n", "pushd_webhook_attempt_seconds_count 4\n"} {
			if !strings.Contains(text, want) {
				t.Errorf("metrics lack %q:\n%s", want, text)
			}
		}
		if got := c.get(w.ID).Stats; got != (protocol.WebhookStats{Attempts: 4, Delivered: 1, Failed: 3}) {
			t.Errorf("stats: got %+v", got)
		}
		list, err := c.Attempts(context.Background(), w.ID, 10)
		if err != nil || len(list.Attempts) != 4 || *list.Attempts[0].Status != 204 || list.Attempts[3].NextAttempt == nil || list.Attempts[0].NextAttempt != nil {
			t.Errorf("attempts: got %+v, %v", list, err)
		}
	})
}

func TestOrderIsKeptPerTopicThoughAFailingTopicHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, trusting)
		defer c.close()
		failures := map[string]int{}
		c.world.serve("a.example", func(r request) (int, http.Header, error) {
			c.world.mu.Lock()
			defer c.world.mu.Unlock()
			var n int
			_, _ = fmt.Sscan(r.body, &n)
			if n%7 == 3 && failures[r.topic+r.body] < 2 {
				failures[r.topic+r.body]++
				return 500, nil, nil
			}
			return 200, nil, nil
		})
		w := c.create(protocol.WebhookSpec{Ordering: orderingOrdered})
		for i := range 40 {
			for _, topic := range []string{"a", "b", "c", "d", "e"} {
				c.publish(topic, fmt.Sprint(i))
			}
		}
		// Five topics that fail at once open the breaker, whose probes are up to five minutes apart: six times over.
		time.Sleep(2 * time.Hour)
		first := map[string][]string{}
		settled := map[string]int{}
		for _, r := range c.world.requests("a.example") {
			if list := first[r.topic]; !slices.Contains(list, r.body) {
				first[r.topic] = append(list, r.body)
			}
			settled[r.topic+r.body]++
		}
		for _, topic := range []string{"a", "b", "c", "d", "e"} {
			wantStrings(t, "first deliveries of "+topic, first[topic], numbers(0, 39))
		}
		for what, n := range settled {
			if n > 3 {
				t.Errorf("%s came %d times", what, n)
			}
		}
		if lag := c.get(w.ID).Lag.Events; lag != 0 {
			t.Errorf("lag: got %d, want 0", lag)
		}
	})
}

func TestAPoisonedEventBecomesADeadLetterAndItsTopicGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, trusting)
		defer c.close()
		c.world.serve("a.example", func(r request) (int, http.Header, error) {
			if r.body == "1" {
				return 500, nil, nil
			}
			return 200, nil, nil
		})
		w := c.create(protocol.WebhookSpec{Ordering: orderingOrdered, MaxAttempts: 6})
		for i := range 4 {
			c.publish("a", fmt.Sprint(i))
		}
		time.Sleep(time.Hour)
		want := append([]string{"0"}, append(slices.Repeat([]string{"1"}, 6), "2", "3")...)
		wantStrings(t, "sent", c.world.bodies("a.example"), want)
		dead := c.read(deadTopic + w.ID)
		if len(dead) != 1 || string(dead[0].Data) != "1" {
			t.Fatalf("dead letters: got %+v, want event 1", dead)
		}
		headers := map[string]string{}
		for _, h := range dead[0].Headers {
			headers[h.Name] = h.Value
		}
		if headers["pushd-dead-topic"] != "a" || headers["pushd-dead-offset"] != "2" || headers["pushd-dead-error"] != "500 Internal Server Error" {
			t.Errorf("dead letter's headers: got %v", headers)
		}
		if told := c.read(stateTopic); len(told) != 1 || told[0].Type != "pushd.webhook.dead_letter" {
			t.Errorf("told: got %d events, want one of a dead letter", len(told))
		}
	})
}

func TestGoneDisablesAndResumingSendsAllSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, trusting)
		defer c.close()
		c.world.serve("a.example", always(410))
		w := c.create(protocol.WebhookSpec{})
		c.publish("a", "0")
		time.Sleep(time.Second)
		if got := c.get(w.ID); got.State != protocol.WebhookDisabled || !strings.Contains(got.StateReason, "410") || got.Lag.Events != 1 {
			t.Errorf("after 410: got %s (%s), lag %d, want disabled with lag 1", got.State, got.StateReason, got.Lag.Events)
		}
		if list, err := c.Attempts(context.Background(), w.ID, 10); err != nil || len(list.Attempts) != 1 || list.Attempts[0].NextAttempt != nil {
			t.Errorf("attempts: got %+v, %v, want one that has no next", list, err)
		}
		for i := 1; i <= 50; i++ {
			c.publish(fmt.Sprint("t", i), fmt.Sprint(i))
		}
		time.Sleep(time.Hour)
		if n := len(c.world.requests("a.example")); n != 1 {
			t.Errorf("a disabled endpoint got %d requests, want 1", n)
		}
		c.world.serve("a.example", always(200))
		if _, err := c.Resume(context.Background(), w.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		got := c.world.bodies("a.example")[1:]
		slices.Sort(got)
		want := numbers(0, 50)
		slices.Sort(want)
		wantStrings(t, "sent after resuming", got, want)
	})
}

func TestAPausedEndpointIsNotAskedByAnyLeaderBeforeItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, trusting)
		defer c.close()
		start := time.Now()
		c.world.serve("a.example", func(r request) (int, http.Header, error) {
			if time.Since(start) < 29*time.Second {
				return 429, http.Header{"Retry-After": {"30"}}, nil
			}
			return 200, nil, nil
		})
		c.create(protocol.WebhookSpec{})
		for i := range 20 {
			c.publish(fmt.Sprint("t", i), fmt.Sprint(i))
		}
		time.Sleep(10 * time.Second)
		early := len(c.world.requests("a.example"))
		if early > 2 { // one request at a time, until the first success
			t.Errorf("got %d requests, want as many as were under way when the first was answered", early)
		}
		old := c.nodes[0]
		old.leads.Store(false)
		old.d.Close() // crashed
		c.start(trusting)
		time.Sleep(19 * time.Second)
		if n := len(c.world.requests("a.example")); n != early {
			t.Errorf("%d requests came before the endpoint wanted them", n-early)
		}
		time.Sleep(time.Minute)
		seen := map[string]bool{}
		for _, r := range c.world.requests("a.example")[early:] {
			seen[r.body] = true
		}
		if len(seen) != 20 {
			t.Errorf("got %d of 20 events afterwards", len(seen))
		}
	})
}

func TestAHungEndpointDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, trusting)
		defer c.close()
		c.world.serve("hung.example", hang)
		c.create(protocol.WebhookSpec{URL: "https://hung.example/"})
		for i := range 49 {
			c.create(protocol.WebhookSpec{URL: fmt.Sprintf("https://ok%d.example/", i)})
		}
		time.Sleep(time.Second)
		for i := range 100 {
			published := time.Now()
			c.publish("a", fmt.Sprint(i))
			time.Sleep(time.Second)
			for h := range 49 {
				list := c.world.requests(fmt.Sprintf("ok%d.example", h))
				if len(list) != i+1 || !list[i].at.Equal(published) {
					t.Fatalf("event %d at endpoint %d: %d requests, want it at once", i, h, len(list))
				}
			}
		}
		if n := len(c.world.requests("hung.example")); n > 12 {
			t.Errorf("the hung endpoint got %d requests, want single probes ever further apart", n)
		}
	})
}

func TestAnOutageCostsProbesOnlyAndEndsWithoutAStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const events = 20_000
		c := newCluster(t, 1, trusting)
		defer c.close()
		c.meta.Apply(0, broker.PutPolicy{Policy: protocol.Policy{Pattern: "**", MaxEvents: 10 * events}}.Encode())
		c.broker.SetCatalog(c.meta.Catalog())
		c.world.serve("a.example", down)
		w := c.create(protocol.WebhookSpec{})
		c.publishMany("a", events)
		time.Sleep(time.Hour)
		probes := len(c.world.requests("a.example"))
		saves, size := c.logs[0].saved()
		if probes > 25 {
			t.Errorf("%d requests within an hour, want at most 25", probes)
		}
		if saves > 2*probes+2 {
			t.Errorf("%d progress entries for %d requests", saves, probes)
		}
		if size > 256 {
			t.Errorf("progress takes %d bytes, want at most 256", size)
		}
		if got := c.get(w.ID); got.Lag.Events != events {
			t.Errorf("lag: got %d, want %d", got.Lag.Events, events)
		}
		c.world.peak()
		c.world.serve("a.example", func(request) (int, http.Header, error) {
			time.Sleep(10 * time.Millisecond)
			return 200, nil, nil
		})
		time.Sleep(10 * time.Minute)
		if most := c.world.peak(); most > defaultConcurrency {
			t.Errorf("%d requests at a time, want at most %d", most, defaultConcurrency)
		}
		if got := c.get(w.ID); got.Lag.Events != 0 {
			t.Errorf("lag after recovery: got %d, want 0", got.Lag.Events)
		}
	})
}

func TestProgressCostsLessThanAHundredthOfAnEntryPerDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const hooks, events = 20, 2000
		c := newCluster(t, 1, trusting)
		defer c.close()
		for i := range hooks {
			host := fmt.Sprintf("h%d.example", i)
			c.world.serve(host, slowly(2*time.Millisecond))
			c.create(protocol.WebhookSpec{URL: "https://" + host + "/"})
		}
		time.Sleep(time.Second)
		before, _ := c.logs[0].saved()
		for i := range events {
			c.publish(fmt.Sprint("t", i%50), fmt.Sprint(i))
			time.Sleep(2 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		after, _ := c.logs[0].saved()
		if times, _ := c.counted("h7.example"); len(times) != events {
			t.Errorf("one of the webhooks got %d of %d events", len(times), events)
		}
		if n := float64(after-before) / (hooks * events); n > 0.01 {
			t.Errorf("%.4f progress entries per delivery, want at most 0.01", n)
		}
	})
}
