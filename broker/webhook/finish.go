package webhook

import (
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// finish notes what became of an attempt.
func (d *Dispatcher) finish(j job, record *broker.Record, r result) {
	d.mu.Lock()
	e, it := j.endpoint, j.item
	given := ""
	if r.status != 0 || r.verdict == failed {
		given = d.note(j, record, &r)
	}
	d.mu.Unlock()
	buried := given != "" && d.bury(j, record, &r, given)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.release(j)
	if given != "" && !buried {
		it.next = d.now().Add(readRetry).UnixMilli()
	}
	if j.lane.ended || j.ctx.Err() != nil {
		return
	}
	switch r.verdict {
	case delivered, filtered:
		d.settle(j)
	case vanished:
		d.vanished(j)
		d.settle(j)
	case unread:
		d.log.Error("an event for a webhook could not be read", "webhook", e.hook.ID, "partition", j.lane.lead.partition, "position", it.position, "err", r.reason)
		j.lane.retry(it, d.now().Add(readRetry).UnixMilli())
	default:
		if buried {
			d.settle(j)
		} else {
			j.lane.retry(it, it.next)
		}
		j.lane.lead.changed(0, 0)
	}
	d.enqueue(e)
}

// note lets the endpoint learn of an answer, and says why the event is given
// up, "" if it is not. d.mu is held.
func (d *Dispatcher) note(j job, record *broker.Record, r *result) (given string) {
	e, it := j.endpoint, j.item
	count := protocol.WebhookStats{Attempts: 1}
	d.counters.answered(r.took)
	it.status = r.status
	if r.verdict == delivered {
		count.Delivered = 1
		delete(e.gaps, record.Topic)
		if e.worked(r.at) {
			d.tell(e, stateRecovered, r.at, nil)
		}
	} else {
		count.Failed = 1
		given = d.noteFailure(j, r)
	}
	e.stats.Add(count)
	d.counters.stats.Add(count)
	a := logged{
		event: record.ID, topic: record.Topic, offset: record.Offset, at: r.at, took: r.took, status: int16(r.status),
		attempt: int32(j.attempt), reason: r.reason,
	}
	if r.verdict != delivered && given == "" && !e.stopping {
		a.next = max(it.next, e.hold)
	}
	if given != "" {
		a.reason += "; given up: " + given
	}
	d.logged += e.log.add(a, d.logged >= maxAllLogged)
	return given
}

func (d *Dispatcher) noteFailure(j job, r *result) (given string) {
	e, it := j.endpoint, j.item
	if j.to.url.String() != e.url.String() { // PATCH named another URL meanwhile: what this one says is not the new one's
		it.next = r.at.Add(r.took).UnixMilli()
		return ""
	}
	counts := !e.breaker.open && r.verdict != throttled
	e.failedBy(r, uint64(j.lane.lead.partition)<<48^it.position)
	now := r.at.UnixMilli()
	if it.first == 0 {
		it.first = now
	}
	if counts {
		it.attempts++
	}
	it.next = r.at.Add(r.took + jitter(delay(max(it.attempts, 1)))).UnixMilli()
	if e.failing != 0 && !e.told && since(e.failing, r.at) >= failingEvent {
		e.told = true
		d.tell(e, stateFailing, r.at, map[string]any{"since": time.UnixMilli(e.failing).UTC(), "error": r.reason})
	}
	switch {
	case r.verdict == gone:
		d.disable(e, "the endpoint answered "+r.reason)
	case e.hopeless(r.at) != "":
		d.disable(e, e.hopeless(r.at))
	case r.verdict == throttled:
		d.spread(e)
	}
	return e.givesUp(it, r)
}

// givesUp says why an event is tried no more, "" if it is.
func (e *endpoint) givesUp(it *item, r *result) string {
	switch {
	case r.verdict == gone || e.stopping:
		return "" // it waits for the endpoint to be enabled again
	case r.verdict == refusedForGood:
		return "the endpoint asked for it (webhook-delivery: abort-message)"
	case r.verdict == malformed && it.attempts >= poisonAttempts:
		return "the endpoint refuses this event"
	case it.attempts >= e.maxAttempts:
		return "as many attempts as the webhook has"
	case since(it.first, r.at) >= e.maxAge:
		return "as old as the webhook lets it get"
	}
	return ""
}

// settle ends an event at its lane. d.mu is held.
func (d *Dispatcher) settle(j job) {
	n := j.lane
	n.settle(j.item, func(topic string, after, upTo uint64) uint64 {
		return d.broker.NextOf(n.lead.partition, topic, after, upTo)
	})
	n.lead.changed(1, n.unsaved)
	d.behind(n)
}

// unpark lets one endpoint that waits for a host have a slot there, if one is
// free. d.mu is held.
func (d *Dispatcher) unpark(h *host) {
	if h == nil || len(h.waiting) == 0 || h.inFlight >= maxPerHost {
		return
	}
	e := h.waiting[0]
	h.waiting[0] = nil
	h.waiting = h.waiting[1:]
	e.parked = false
	d.enqueue(e)
}

// release gives back what a request held. d.mu is held.
func (d *Dispatcher) release(j job) {
	e, l := j.endpoint, j.lane.lead
	j.lane.back(j.item)
	e.inFlight--
	j.host.inFlight--
	d.inFlight--
	l.inFlight--
	if j.item.troubled {
		d.troubled--
	}
	d.enqueue(e)
	d.unpark(j.host)
	if l.inFlight == 0 && l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
}
