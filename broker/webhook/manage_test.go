package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

var ctx = context.Background()

func TestAReplaySendsTheSameIDsBesideWhatIsNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, trusting)
		defer c.close()
		w := c.create(protocol.WebhookSpec{})
		for i := range 2000 {
			c.publish(fmt.Sprint("t", i%5), fmt.Sprint(i))
		}
		time.Sleep(time.Minute)
		first := map[string]string{}
		for _, r := range c.world.requests("a.example") {
			first[r.body] = r.id
		}
		c.world.serve("a.example", slowly(10*time.Millisecond))
		from := len(c.world.requests("a.example"))
		if _, err := c.Replay(ctx, w.ID, "earliest"); err != nil {
			t.Fatal(err)
		}
		for i := range 20 { // while the replay is under way
			published := time.Now()
			c.publish("live", fmt.Sprint("live ", i))
			time.Sleep(100 * time.Millisecond)
			list := c.world.requests("a.example")
			at := slices.IndexFunc(list, func(r request) bool { return r.body == fmt.Sprint("live ", i) })
			if at < 0 || list[at].at.Sub(published) > 25*time.Millisecond {
				t.Errorf("a new event waited for the replay")
			}
		}
		time.Sleep(time.Minute)
		again := map[string]int{}
		for _, r := range c.world.requests("a.example")[from:] {
			if r.topic == "live" {
				continue
			}
			again[r.body]++
			if r.id != first[r.body] || r.header.Get("Pushd-Replay") != "1" {
				t.Errorf("event %s came as %s (replay %q), want %s", r.body, r.id, r.header.Get("Pushd-Replay"), first[r.body])
			}
		}
		if len(again) != 2000 {
			t.Errorf("replayed %d different events, want 2000", len(again))
		}
		for body, n := range again {
			if n != 1 {
				t.Errorf("event %s was replayed %d times", body, n)
			}
		}
		for p := range c.logs {
			if list := c.broker.Consumers(uint16(p)); len(list) != 1 {
				t.Errorf("partition %d has %d consumers behind the replay, want 1", p, len(list))
			}
		}
	})
}

func TestAnOrderedWebhookGoesBackToReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, trusting)
		defer c.close()
		w := c.create(protocol.WebhookSpec{Ordering: orderingOrdered})
		for i := range 10 {
			c.publish("a", fmt.Sprint(i))
		}
		time.Sleep(time.Minute)
		if _, err := c.Replay(ctx, w.ID, "-3"); err != nil {
			t.Fatal(err)
		}
		c.publish("a", "10")
		time.Sleep(time.Minute)
		wantStrings(t, "sent", c.world.bodies("a.example"), append(numbers(0, 9), numbers(7, 10)...))
	})
}

func TestWhatRetentionTookFromAPausedWebhookIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, trusting)
		defer c.close()
		c.meta.Apply(0, broker.PutPolicy{Policy: protocol.Policy{Pattern: "a", MaxEvents: 30}}.Encode())
		c.broker.SetCatalog(c.meta.Catalog())
		w := c.create(protocol.WebhookSpec{Topics: []string{"a"}})
		if _, err := c.Pause(ctx, w.ID); err != nil {
			t.Fatal(err)
		}
		c.publishMany("a", 100)
		if got := c.get(w.ID); got.State != protocol.WebhookPaused {
			t.Errorf("state: got %s, want paused", got.State)
		}
		if _, err := c.Resume(ctx, w.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		got := c.world.bodies("a.example")
		slices.Sort(got)
		wantStrings(t, "sent", got, numbers(70, 99))
		if h := c.world.requests("a.example")[0].header.Get("Pushd-Gap"); h != "1-70; reason=expired" {
			t.Errorf("the first request tells of the gap %q, want 1-70", h)
		}
		lost := map[string]bool{}
		for _, e := range c.read(stateTopic) {
			var told struct {
				Gap      *protocol.Gap `json:"gap"`
				Position uint64        `json:"position"`
			}
			if err := json.Unmarshal(e.Data, &told); err != nil || e.Type != "pushd.webhook.gap" {
				t.Errorf("told %s %s, %v", e.Type, e.Data, err)
			}
			if told.Gap != nil {
				for i := told.Gap.From; i <= told.Gap.To; i++ {
					lost[fmt.Sprint(i)] = true
				}
				continue
			}
			lost[fmt.Sprint("position ", told.Position)] = true
		}
		if len(lost) != 70 {
			t.Errorf("told of %d lost events, want 70: %v", len(lost), lost)
		}
	})
}

func TestAnEndpointGetsNothingBeforeItAgrees(t *testing.T) {
	allow := func(origin string) answerer {
		return func(r request) (int, http.Header, error) {
			if r.method == http.MethodOptions {
				return 200, http.Header{"Webhook-Allowed-Origin": {origin}, "Webhook-Allowed-Rate": {"120"}}, nil
			}
			return 200, nil, nil
		}
	}
	echo := func(r request) (int, http.Header, error) {
		return 200, http.Header{"Test-Body": {r.body}}, nil
	}
	for _, c := range []struct {
		name   string
		answer answerer
		agrees bool
	}{
		{"*", allow("*"), true},
		{"our origin", allow(origin), true},
		{"an origin that begins like ours", allow(origin + ".attacker.example"), false},
		{"200 to everything", always(200), false},
		{"echoing the challenge", echo, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			var later atomic.Int64
			k := newCluster(t, 1, Options{Now: func() time.Time { return time.Now().Add(time.Duration(later.Load())) }})
			defer k.close()
			k.world.serve("a.example", c.answer)
			w := k.create(protocol.WebhookSpec{})
			if w.State != protocol.WebhookVerifying {
				t.Errorf("%s: state %s, want verifying", c.name, w.State)
			}
			k.publish("a", "x")
			time.Sleep(time.Second)
			got := k.get(w.ID)
			events := 0
			for _, r := range k.world.requests("a.example") {
				if r.body == "x" {
					events++
				}
			}
			if c.agrees && (got.State != protocol.WebhookActive || events != 1) {
				t.Errorf("%s: %s, %d events sent; want active and 1", c.name, got.State, events)
			}
			if !c.agrees && (got.State != protocol.WebhookVerifying || events != 0 || got.LastError == "" || len(k.world.requests("a.example")) != 2) {
				t.Errorf("%s: %s, %d events sent, %d requests, last error %q; want verifying, 0, 2", c.name, got.State, events, len(k.world.requests("a.example")), got.LastError)
			}
			if c.agrees {
				return
			}
			later.Store(int64(verifyFor))
			time.Sleep(2 * maxVerifyDelay)
			if got := k.get(w.ID); got.State != protocol.WebhookDisabled {
				t.Errorf("%s: a day later: %s, want disabled", c.name, got.State)
			}
		})
	}
}

func TestAnotherHostIsNotBoundByWhatTheOldOneAgreedTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, Options{})
		defer c.close()
		c.world.serve("a.example", func(request) (int, http.Header, error) {
			time.Sleep(5 * time.Second) // meanwhile the URL is changed
			return 200, http.Header{"Webhook-Allowed-Origin": {"*"}}, nil
		})
		w := c.create(protocol.WebhookSpec{})
		time.Sleep(time.Second)
		if _, err := c.Patch(ctx, w.ID, protocol.WebhookPatch{URL: new("https://b.example/")}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if got := c.get(w.ID); got.State != protocol.WebhookVerifying {
			t.Errorf("state %s, want verifying: the new host has not agreed", got.State)
		}
	})
}

func TestWhatAnOldURLSaysLateIsNotTheNewOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, trusting)
		defer c.close()
		c.world.serve("a.example", func(request) (int, http.Header, error) {
			time.Sleep(5 * time.Second) // meanwhile the URL is changed
			return 410, nil, nil
		})
		c.world.serve("b.example", always(200))
		w := c.create(protocol.WebhookSpec{})
		c.publish("a", "0")
		time.Sleep(time.Second)
		if _, err := c.Patch(ctx, w.ID, protocol.WebhookPatch{URL: new("https://b.example/")}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if got := c.get(w.ID); got.State != protocol.WebhookActive {
			t.Errorf("state %s (%s), want active", got.State, got.StateReason)
		}
		wantStrings(t, "sent to the new URL", c.world.bodies("b.example"), []string{"0"})
	})
}

func TestARateIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, trusting)
		defer c.close()
		c.create(protocol.WebhookSpec{Rate: 5})
		c.publishMany("a", 1000)
		time.Sleep(20 * time.Second)
		if n := len(c.world.requests("a.example")); n < 85 || n > 105 {
			t.Errorf("%d requests in 20 s, want about 100", n)
		}
	})
}

func TestTheOldSecretSignsForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var later atomic.Int64
		o := trusting
		o.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
		c := newCluster(t, 1, o)
		defer c.close()
		w := c.create(protocol.WebhookSpec{})
		rotated, err := c.RotateSecret(ctx, w.ID, "")
		if err != nil || rotated.Secret == w.Secret || rotated.Secret == "" {
			t.Fatalf("rotate: got %q, %v", rotated.Secret, err)
		}
		signatures := func() []string {
			time.Sleep(time.Second)
			c.publish("a", "x")
			time.Sleep(time.Second)
			list := c.world.requests("a.example")
			return strings.Fields(list[len(list)-1].header.Get("Webhook-Signature"))
		}
		if n := len(signatures()); n != 2 {
			t.Errorf("%d signatures at once, want 2", n)
		}
		later.Store(int64(secretOverlap))
		if n := len(signatures()); n != 1 {
			t.Errorf("%d signatures a day later, want 1", n)
		}
		if text := string(c.meta.Catalog().Webhook(w.ID).Secrets[0].Sealed); strings.Contains(text, rotated.Secret[7:20]) {
			t.Errorf("the catalog has the secret in the open")
		}
	})
}

func TestFiveDaysOfFailureDisable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var later atomic.Int64
		o := trusting
		o.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
		c := newCluster(t, 1, o)
		defer c.close()
		c.world.serve("a.example", down)
		w := c.create(protocol.WebhookSpec{})
		c.publish("a", "x")
		time.Sleep(time.Hour)
		later.Add(int64(4 * 24 * time.Hour))
		c.publish("a", "y")
		time.Sleep(time.Hour)
		if got := c.get(w.ID); got.State != protocol.WebhookActive {
			t.Errorf("before: %s", got.State)
		}
		later.Add(int64(24 * time.Hour))
		time.Sleep(10 * time.Minute)
		if got := c.get(w.ID); got.State != protocol.WebhookDisabled || !strings.Contains(got.StateReason, "five days") {
			t.Errorf("after: %s (%s), want disabled", got.State, got.StateReason)
		}
		var kinds []string
		for _, e := range c.read(stateTopic) {
			kinds = append(kinds, strings.TrimPrefix(e.Type, "pushd.webhook."))
		}
		wantStrings(t, "told", kinds, []string{stateFailing, stateDead, stateDisabled})
	})
}

func TestWhatCannotBeDoneIsRefusedInWords(t *testing.T) {
	c := newCluster(t, 1, Options{NoVerify: true})
	defer c.close()
	for _, s := range []protocol.WebhookSpec{
		{},
		{URL: "https://a.example/"},
		{URL: "http://a.example/", Topics: []string{"a"}},
		{URL: "https://user:pass@a.example/", Topics: []string{"a"}},
		{URL: "https://127.0.0.1/", Topics: []string{"a"}},
		{URL: "https://[::1]/", Topics: []string{"a"}},
		{URL: "https://a.example/#x", Topics: []string{"a"}},
		{URL: "not a url", Topics: []string{"a"}},
		{URL: "https://a.example/", Topics: []string{"a..b"}},
		{URL: "https://a.example/", Topics: []string{"a"}, Secret: "whsec_c2hvcnQ="},
		{URL: "https://a.example/", Topics: []string{"a"}, Secret: "v1,abc"},
		{URL: "https://a.example/", Topics: []string{"a"}, Ordering: "random"},
		{URL: "https://a.example/", Topics: []string{"a"}, Format: "xml"},
		{URL: "https://a.example/", Topics: []string{"a"}, Concurrency: 65},
		{URL: "https://a.example/", Topics: []string{"a"}, Rate: -1},
		{URL: "https://a.example/", Topics: []string{"a"}, MaxAge: "soon"},
		{URL: "https://a.example/", Topics: []string{"a"}, Headers: map[string]string{"Webhook-Id": "x"}},
		{URL: "https://a.example/", Topics: []string{"a"}, Headers: map[string]string{"X": "a\nb"}},
		{URL: "https://a.example/", Topics: []string{"a"}, After: "no-such-cursor"},
	} {
		if _, err := c.Create(ctx, s); err == nil || protocol.CodeOf(err).Status() != http.StatusBadRequest {
			t.Errorf("%+v: got %v, want a refusal", s, err)
		}
	}
	if len(c.broker.Consumers(0)) != 0 {
		t.Errorf("refused registrations left consumers behind")
	}
}

func TestAPatchKeepsThePlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, trusting)
		defer c.close()
		w := c.create(protocol.WebhookSpec{Topics: []string{"a"}})
		c.publish("a", "0")
		time.Sleep(time.Second)
		topics, to := []string{"a", "b"}, "https://b.example/"
		if _, err := c.Patch(ctx, w.ID, protocol.WebhookPatch{Topics: &topics, URL: &to}); err != nil {
			t.Fatal(err)
		}
		c.publish("a", "1")
		c.publish("b", "2")
		time.Sleep(time.Second)
		wantStrings(t, "at the old URL", c.world.bodies("a.example"), []string{"0"})
		wantStrings(t, "at the new URL", c.world.bodies("b.example"), []string{"1", "2"})
		if _, err := c.Patch(ctx, "wh_none", protocol.WebhookPatch{}); protocol.CodeOf(err) != protocol.NoSuchWebhook {
			t.Errorf("an unknown one: got %v", err)
		}
	})
}
