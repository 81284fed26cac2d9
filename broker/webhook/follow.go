package webhook

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

func covers(selectors []protocol.Selector, topic string) bool {
	return slices.ContainsFunc(selectors, func(s protocol.Selector) bool { return s.Match(topic) })
}

// follow holds the dispatcher to what the node leads and to the catalog.
func (d *Dispatcher) follow() {
	leading, catalog, key := d.node.Leading(), d.node.Catalog(), d.node.Key()
	d.mu.Lock()
	defer d.mu.Unlock()
	for p, l := range d.leads {
		if leading[p] != l.term {
			d.end(l)
		}
	}
	if catalog != d.catalog || d.keyed != (key != nil) {
		d.sync(catalog, key)
	}
	for p, term := range leading {
		if d.leads[p] == nil {
			l := d.newLead(p, term)
			d.leads[p] = l
			d.spawn(l.run)
		}
	}
	d.pump()
}

// end gives up a partition: its requests end with it, so that none of them
// arrives behind the next leader's. d.mu is held.
func (d *Dispatcher) end(l *lead) {
	l.cancel()
	delete(d.leads, l.partition)
	for _, n := range l.lanes {
		d.drop(n)
	}
	if l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
}

// drop ends a lane. d.mu is held.
func (d *Dispatcher) drop(n *lane) {
	n.ended = true
	delete(n.lead.lanes, n.id)
	n.endpoint.lanes = slices.DeleteFunc(n.endpoint.lanes, func(other *lane) bool { return other == n })
}

// sync takes over what has changed in the catalog, and looks at nothing else:
// there may be many thousands. d.mu is held.
func (d *Dispatcher) sync(catalog *broker.Catalog, key []byte) {
	old := d.catalog.Webhooks
	if fresh := (key != nil) != d.keyed; fresh { // all of them have to be made anew
		for _, w := range old {
			if catalog.Webhook(w.ID) == nil {
				d.forget(w.ID)
			}
		}
		old = nil
	}
	d.catalog, d.keyed = catalog, key != nil
	now := catalog.Webhooks
	removed := false
	for len(old) > 0 || len(now) > 0 {
		switch {
		case len(old) > 0 && len(now) > 0 && old[0] == now[0]:
			old, now = old[1:], now[1:]
		case len(now) == 0 || len(old) > 0 && old[0].ID < now[0].ID:
			d.forget(old[0].ID)
			removed, old = true, old[1:]
		case len(old) == 0 || now[0].ID < old[0].ID:
			d.refresh(now[0], key)
			now = now[1:]
		default:
			d.refresh(now[0], key)
			removed, old, now = true, old[1:], now[1:]
		}
	}
	for _, l := range d.leads {
		if removed && l.loaded {
			l.rematch()
		}
	}
}

// refresh makes an endpoint as its registration is now. d.mu is held.
func (d *Dispatcher) refresh(w *broker.Webhook, key []byte) {
	t, err := newTarget(w, key)
	if err != nil {
		d.log.Error("webhook can't be used", "webhook", w.ID, "err", err)
		return
	}
	e := d.endpoints[w.ID]
	if e == nil {
		e = &endpoint{limit: 1}
		d.endpoints[w.ID] = e
	} else {
		e.renew(t)
	}
	e.target, e.stopping = t, false
	d.place(e, t.url.Host)
	delete(d.verifying, w.ID)
	if stateOf(w) == protocol.WebhookVerifying {
		d.verifying[w.ID] = &verification{}
	}
	for _, l := range d.leads {
		if l.loaded {
			d.attach(l, e, w.ID)
			d.attach(l, e, w.ID+replaySuffix)
		}
	}
	d.enqueue(e)
}

// renew prepares for another registration. What is replicated has to follow:
// the next leader must neither take up a failure that was forgiven, nor look
// with new topics at what was passed over with the old ones.
func (e *endpoint) renew(t *target) {
	chance := !e.active() || e.url.String() != t.url.String()
	if chance {
		e.breaker, e.hold, e.failing, e.blocked, e.told, e.limit, e.throttles = breaker{}, 0, 0, 0, false, 1, 0
	}
	if !chance && slices.Equal(e.hook.Spec.Topics, t.hook.Spec.Topics) {
		return
	}
	for _, n := range e.lanes {
		n.touch()
		n.lead.changed(0, 0)
	}
}

// place notes at which host an endpoint is; "" is none. d.mu is held.
func (d *Dispatcher) place(e *endpoint, name string) {
	if e.host != nil && e.host.name == name {
		return
	}
	if e.host != nil {
		if e.host.endpoints--; e.host.endpoints == 0 {
			delete(d.hosts, e.host.name)
		}
	}
	h := d.hosts[name]
	if h == nil && name != "" {
		h = &host{name: name}
		d.hosts[name] = h
	}
	if e.host, e.parked = h, false; h != nil {
		h.endpoints++
	}
}

func (d *Dispatcher) forget(id string) {
	e := d.endpoints[id]
	if e == nil {
		return
	}
	for _, n := range slices.Clone(e.lanes) {
		d.drop(n)
	}
	d.logged -= len(e.log.ring)
	e.stopping = true
	delete(d.endpoints, e.hook.ID)
	delete(d.sleeping, e)
	delete(d.verifying, e.hook.ID)
	d.place(e, "")
}

// attach gives an endpoint its lane in a partition, or keeps the one that it
// has. d.mu is held.
func (d *Dispatcher) attach(l *lead, e *endpoint, id string) {
	c, exists := d.broker.ConsumerOf(l.partition, id)
	n := l.lanes[id]
	if n != nil && exists && n.epoch == c.Epoch {
		n.ordered = e.hook.Spec.Ordering == orderingOrdered
		return
	}
	if n != nil {
		d.drop(n)
	}
	if !exists {
		return
	}
	n = d.join(l, e, c)
	l.matcher.join(n)
	l.version++
	d.behind(n)
}

// join makes a lane of what was replicated. d.mu is held.
func (d *Dispatcher) join(l *lead, e *endpoint, c broker.Consumer) *lane {
	now := d.now()
	n := newLane(e, l, c, e.hook.Spec.Ordering == orderingOrdered, now)
	e.hold = max(e.hold, min(c.State.Hold, now.Add(maxRetryAfter).UnixMilli()))
	if e.hold > c.State.Hold {
		n.touch() // so that the next leader of this partition knows, too
		l.changed(0, 0)
	}
	if e.failing == 0 && e.lastGood.IsZero() {
		e.failing = c.State.Failing
	}
	l.lanes[c.ID] = n
	e.lanes = append(e.lanes, n)
	return n
}

// rematch makes the matcher anew: what selectors a lane had is not kept. d.mu is
// held.
func (l *lead) rematch() {
	l.matcher = newMatcher()
	l.version++
	for _, n := range l.lanes {
		l.matcher.join(n)
	}
}

// load takes over the state that was replicated: the feed begins with what the
// hindmost lane has not looked at, once for all of them.
func (d *Dispatcher) load(l *lead) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l.position, l.loaded = d.broker.Position(l.partition), true
	// Under the lock: who is registered while they are listed is either among them or attached behind.
	for _, c := range d.broker.Consumers(l.partition) {
		e := d.endpoints[strings.TrimSuffix(c.ID, replaySuffix)]
		if e == nil {
			continue // nobody's, or the catalog is not here yet: then it is attached
		}
		n := d.join(l, e, c)
		if n.tail = n.until == 0; n.tail {
			l.position = min(l.position, n.scanned)
		}
		d.behind(n)
		d.enqueue(e)
	}
	l.rematch()
	d.pump()
}

// finishReplay forgets a replay that is at its end. d.mu is held.
func (d *Dispatcher) finishReplay(n *lane) {
	if n.ended || !n.done() {
		return
	}
	d.drop(n)
	d.spawn(func() {
		_, err := d.broker.Consumer(d.running, broker.ConsumerQuery{Partition: n.lead.partition, ID: n.id, Epoch: n.epoch, Delete: true})
		if err != nil { // the next leader finds it done, and tries again
			d.log.Warn("a finished replay could not be removed", "webhook", n.endpoint.hook.ID, "partition", n.lead.partition, "err", err)
		}
	})
}

// Drain stops requests in a partition that this node is about to hand over,
// waits for those that are under way, and replicates what they came to, so
// that the next leader sends nothing twice.
func (d *Dispatcher) Drain(ctx context.Context, partition uint16) {
	d.mu.Lock()
	l := d.leads[partition]
	if l == nil || !l.loaded {
		d.mu.Unlock()
		return
	}
	l.draining = true
	var idle chan struct{}
	if l.inFlight > 0 {
		if l.idle == nil {
			l.idle = make(chan struct{})
		}
		idle = l.idle
	}
	d.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	if idle != nil {
		select {
		case <-idle:
		case <-ctx.Done():
		}
	}
	if err := l.saveNow(ctx); err != nil {
		d.log.Warn("webhook progress could not be stored before the hand-over", "partition", partition, "err", err)
	}
}

// Reopen ends a drain whose hand-over did not come about.
func (d *Dispatcher) Reopen(partition uint16) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.leads[partition]
	if l == nil || !l.draining {
		return
	}
	l.draining = false
	for _, n := range l.lanes {
		d.behind(n)
		d.enqueue(n.endpoint)
	}
	d.pump()
}

// sweep forgets consumers that are nobody's: of a registration that did not
// come about, or of one that was deleted while the partition could not be told.
func (d *Dispatcher) sweep() {
	d.mu.Lock()
	var led []uint16
	for p, l := range d.leads {
		if l.loaded {
			led = append(led, p)
		}
	}
	d.mu.Unlock()
	for _, p := range led {
		for _, c := range d.broker.Consumers(p) {
			id := strings.TrimSuffix(c.ID, replaySuffix)
			if d.node.Catalog().Webhook(id) != nil || d.now().Sub(time.Unix(0, c.Made)) < orphanAge {
				continue
			}
			if d.node.Change(d.running, broker.WithoutWebhook{ID: id}) != nil {
				continue
			}
			_, _ = d.broker.Consumer(d.running, broker.ConsumerQuery{Partition: p, ID: c.ID, Epoch: c.Epoch, Delete: true}) // else the next time
		}
	}
}
