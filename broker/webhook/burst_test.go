package webhook

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pushd/pushd/protocol"
)

// Requests that are under way together fail together: that is one answer of
// the endpoint, not one for each of them.
func TestABurstOfFailuresIsOnePause(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		header http.Header
		within time.Duration // of the first answer, all is sent
	}{
		{"429", 429, nil, 10 * time.Second},
		{"429 with Retry-After", 429, http.Header{"Retry-After": {"3"}}, 10 * time.Second},
		{"503", 503, nil, 30 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			k := newCluster(t, 1, trusting)
			defer k.close()
			w := k.create(protocol.WebhookSpec{Concurrency: 32})
			k.world.serve("a.example", slowly(time.Millisecond))
			k.publishMany("a", 200)
			time.Sleep(time.Minute) // by then it has earned its concurrency
			began := time.Now()
			k.world.serve("a.example", func(request) (int, http.Header, error) {
				time.Sleep(100 * time.Millisecond)
				if time.Since(began) < time.Second {
					return c.status, c.header, nil
				}
				return 200, nil, nil
			})
			k.publishMany("a", 32)
			time.Sleep(c.within)
			if got := k.get(w.ID); got.Lag.Events != 0 || got.Stats.Failed < 32 {
				t.Errorf("%s: %d of 32 events wait, %d requests failed; want none to wait %v later", c.name, got.Lag.Events, got.Stats.Failed, c.within)
			}
		})
	}
}

func TestRetryAfterCountsFromTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, trusting)
		defer c.close()
		answered := time.Time{}
		c.world.serve("a.example", func(r request) (int, http.Header, error) {
			if r.n > 1 {
				return 200, nil, nil
			}
			time.Sleep(10 * time.Second)
			answered = time.Now()
			return 503, http.Header{"Retry-After": {"10"}}, nil
		})
		c.create(protocol.WebhookSpec{})
		c.publish("a", "0")
		time.Sleep(time.Minute)
		list := c.world.requests("a.example")
		if len(list) != 2 || list[1].at.Sub(answered) < 10*time.Second {
			t.Errorf("%d requests, the last %v behind the answer; want the second no sooner than 10 s", len(list), list[len(list)-1].at.Sub(answered))
		}
	})
}
