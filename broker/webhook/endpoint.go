package webhook

import (
	"net/url"
	"slices"
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// target is a registration made ready for use. It never changes.
type target struct {
	hook        *broker.Webhook
	selectors   []protocol.Selector
	types       map[string]bool // nil: all
	url         *url.URL
	secrets     []secret // newest first; none while this node lacks the key
	secretUntil []time.Time
	maxAge      time.Duration
	maxAttempts int
	concurrency int
	rate        float64 // events per second in the whole cluster; 0: any
}

// endpoint is one webhook at this node: what is asked of it, and how it
// answers. The dispatcher's mutex guards it.
type endpoint struct {
	*target
	host      *host
	lanes     []*lane
	turn      int
	inFlight  int
	limit     int   // requests in flight that it has earned: begins at one, doubles with each success
	hold      int64 // milliseconds since 1970 before which it wants nothing
	throttles int   // pauses that it asked for in a row
	failing   int64 // milliseconds since 1970 since when nothing but failures came; 0: it works
	told      bool  // that it is failing
	blocked   int64 // since when nothing but blocked addresses
	breaker   breaker
	bucket    bucket
	stopping  bool // disabled here, on its way into the catalog
	queued    bool // among the dispatcher's ready ones
	parked    bool // among those that wait for its host
	log       attemptLog

	gaps      map[string]protocol.Gap // by topic: what its next event tells the endpoint that it has missed
	stats     protocol.WebhookStats   // since this node began to send to it
	lastError string
	lastGood  time.Time
}

// host is who listens at one host and port, shared by all endpoints there.
type host struct {
	name      string
	endpoints int // that are there
	inFlight  int
	waiting   []*endpoint
}

// park lets an endpoint wait for its turn at the host.
func (h *host) park(e *endpoint) {
	if !e.parked {
		e.parked = true
		h.waiting = append(h.waiting, e)
	}
}

func newTarget(w *broker.Webhook, key []byte) (*target, error) {
	t := &target{hook: w, maxAge: defaultMaxAge, maxAttempts: defaultAttempts, concurrency: defaultConcurrency, rate: w.Spec.Rate}
	var err error
	if t.selectors, err = protocol.ParseSelectors(w.Spec.Topics); err != nil {
		return nil, err
	}
	if t.url, err = url.Parse(w.Spec.URL); err != nil {
		return nil, err
	}
	if len(w.Spec.Types) > 0 {
		t.types = map[string]bool{}
	}
	for _, name := range w.Spec.Types {
		t.types[name] = true
	}
	if d, err := time.ParseDuration(w.Spec.MaxAge); err == nil && d > 0 {
		t.maxAge = d
	}
	if w.Spec.MaxAttempts > 0 {
		t.maxAttempts = w.Spec.MaxAttempts
	}
	if w.Spec.Concurrency > 0 {
		t.concurrency = w.Spec.Concurrency
	}
	if w.MaxRate > 0 && (t.rate == 0 || w.MaxRate < t.rate) {
		t.rate = w.MaxRate
	}
	if key == nil {
		return t, nil
	}
	return t, t.unsealSecrets(key)
}

func (t *target) unsealSecrets(key []byte) error {
	for _, sealed := range t.hook.Secrets {
		text, err := unseal(key, t.hook.ID, sealed.Sealed)
		if err != nil {
			return err
		}
		s, err := parseSecret(text)
		if err != nil {
			return err
		}
		t.secrets, t.secretUntil = append(t.secrets, s), append(t.secretUntil, sealed.Until)
	}
	return nil
}

// active says whether events may be sent.
func (e *endpoint) active() bool {
	return stateOf(e.hook) == protocol.WebhookActive && !e.stopping && len(e.secrets) > 0
}

// stateOf is the state of a registration.
func stateOf(w *broker.Webhook) string {
	switch {
	case w.Disabled != "":
		return protocol.WebhookDisabled
	case w.Paused:
		return protocol.WebhookPaused
	case !w.Verified:
		return protocol.WebhookVerifying
	}
	return protocol.WebhookActive
}

// share is how much of a limit for the whole cluster this node may use, by how
// many of the webhook's partitions it leads.
func (e *endpoint) share(partitions int) float64 {
	led := 0
	for _, n := range e.lanes {
		if n.until == 0 {
			led++
		}
	}
	return float64(max(led, 1)) / float64(max(partitions, 1))
}

// allowed is how many requests may be in flight.
func (e *endpoint) allowed(partitions int) int {
	if e.breaker.open {
		return 1
	}
	share := int(float64(e.concurrency)*e.share(partitions) + 0.999)
	return max(min(e.limit, share), 1)
}

// rest is until when nothing may be sent, in milliseconds since 1970; 0 if
// something may.
func (e *endpoint) rest(now time.Time) int64 {
	at := e.hold
	if e.breaker.open {
		at = max(at, e.breaker.probeAt.UnixMilli())
	}
	at = max(at, e.bucket.ready(now))
	if at <= now.UnixMilli() {
		return 0
	}
	return at
}

// take gives the next event to send: by turns from its lanes, a replay's one
// time of some while there are others.
func (e *endpoint) take(now time.Time) (*lane, *item) {
	e.turn++
	live := e.turn%replayTurns != 0
	for range 2 {
		for i := range e.lanes {
			n := e.lanes[(i+e.turn)%len(e.lanes)]
			if live != (n.until == 0) {
				continue
			}
			if it := n.take(now.UnixMilli(), e.breaker.open); it != nil {
				return n, it
			}
		}
		live = !live
	}
	return nil, nil
}

// due is when one of its events is due again, in milliseconds since 1970; 0 if
// none waits.
func (e *endpoint) due() (at int64) {
	for _, n := range e.lanes {
		if d := n.due(); d != 0 && n.sendable() && (at == 0 || d < at) {
			at = d
		}
	}
	if e.breaker.open && slices.ContainsFunc(e.lanes, func(n *lane) bool { return len(n.open) > 0 && n.sendable() }) {
		at = e.breaker.probeAt.UnixMilli()
	}
	return at
}

// signing lists the secrets that sign at a time.
func (e *target) signing(now time.Time) []secret {
	list := make([]secret, 0, len(e.secrets))
	for i, s := range e.secrets {
		if until := e.secretUntil[i]; until.IsZero() || now.Before(until) {
			list = append(list, s)
		}
	}
	return list
}

// worked notes a success and says whether the endpoint has recovered by it.
func (e *endpoint) worked(now time.Time) (recovered bool) {
	e.limit = min(2*e.limit, maxConcurrency)
	recovered = e.told && !e.breaker.open
	if e.breaker.success() {
		e.limit, recovered = 1, e.told
	}
	if recovered {
		e.told = false
	}
	e.failing, e.blocked, e.throttles, e.lastGood = 0, 0, 0, now
	return recovered
}

// failedBy notes a failure.
func (e *endpoint) failedBy(r *result, message uint64) {
	ms, ended := r.at.UnixMilli(), r.at.Add(r.took)
	e.limit = 1
	e.lastError = r.at.UTC().Format(time.RFC3339) + " " + r.reason
	if e.failing == 0 {
		e.failing = ms
	}
	if !r.blocked {
		e.blocked = 0
	} else if e.blocked == 0 {
		e.blocked = ms
	}
	e.breaker.failure(message, r.blamed, r.at, ended)
	if r.verdict == throttled {
		if ms >= e.hold { // else it was under way when another was throttled: one answer, not two
			e.throttles++
		}
		e.hold = max(e.hold, ended.Add(min(max(r.retryAfter, delay(e.throttles)), maxRetryAfter)).UnixMilli())
	}
}

// hopeless says why the endpoint is to be disabled, "" if it is not.
func (e *endpoint) hopeless(now time.Time) string {
	ms := now.UnixMilli()
	switch {
	case e.blocked != 0 && ms-e.blocked >= blockedDisable.Milliseconds():
		return "for an hour its address was none that requests may go to: " + e.lastError
	case e.failing != 0 && ms-e.failing >= disableAfter.Milliseconds():
		return "it failed for five days: " + e.lastError
	}
	return ""
}

// bucket limits a rate: one token a request.
type bucket struct {
	rate   float64 // tokens per second; 0: no limit
	tokens float64
	at     time.Time
}

// ready is when a request may begin, in milliseconds since 1970; 0: at once.
func (b *bucket) ready(now time.Time) int64 {
	if b.rate <= 0 {
		return 0
	}
	if !b.at.IsZero() {
		b.tokens = min(b.tokens+now.Sub(b.at).Seconds()*b.rate, max(b.rate/10, 1))
	} else {
		b.tokens = 1
	}
	b.at = now
	if b.tokens >= 1 {
		return 0
	}
	return now.Add(time.Duration((1 - b.tokens) / b.rate * float64(time.Second))).UnixMilli()
}

func (b *bucket) use() {
	if b.rate > 0 {
		b.tokens--
	}
}
