package webhook

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/pushd/pushd/protocol"
)

// question is what one node's dispatcher asks the others'.
type question struct {
	ID       string `json:"id"`
	Revision uint64 `json:"revision,omitempty"` // of the webhook, to be gone by before the answer
	Hold     int64  `json:"hold,omitempty"`     // the endpoint wants nothing until then, in milliseconds since 1970
	Attempts int    `json:"attempts,omitempty"` // how many of the newest to list
}

// reply is how one node's dispatcher knows a webhook.
type reply struct {
	LastError string                    `json:"last_error,omitempty"`
	Stats     protocol.WebhookStats     `json:"stats"`
	Attempts  []protocol.WebhookAttempt `json:"attempts,omitempty"`
	Leads     []uint16                  `json:"leads,omitempty"` // partitions where it goes by the revision that was asked for
}

// Answer answers another node's question.
func (d *Dispatcher) Answer(req []byte) ([]byte, error) {
	var q question
	if err := json.Unmarshal(req, &q); err != nil {
		return nil, protocol.BadRequest.Errorf("webhooks: malformed question")
	}
	return json.Marshal(d.answer(q))
}

func (d *Dispatcher) answer(q question) (r reply) {
	if q.Revision != 0 {
		r.Leads = d.takeUp(q.ID, q.Revision)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.endpoints[q.ID]
	if e == nil {
		return r
	}
	if q.Hold != 0 {
		d.heed(e, q.Hold)
	}
	r.LastError, r.Stats = e.lastError, e.stats
	if q.Attempts > 0 {
		r.Attempts = e.log.newest(q.Attempts)
	}
	return r
}

// heed keeps a pause that the endpoint asked for, here or elsewhere, and
// replicates it. d.mu is held.
func (d *Dispatcher) heed(e *endpoint, until int64) {
	e.hold = max(e.hold, min(until, d.now().Add(maxRetryAfter).UnixMilli()))
	for _, n := range e.lanes {
		n.touch()
		n.lead.changed(0, 0)
	}
}

// spread tells the other nodes that the endpoint wants nothing for a while.
// d.mu is held.
func (d *Dispatcher) spread(e *endpoint) {
	q := question{ID: e.hook.ID, Hold: e.hold}
	d.heed(e, e.hold)
	d.spawn(func() { d.askAll(d.running, q) })
}

// askAll asks every node, this one included.
func (d *Dispatcher) askAll(ctx context.Context, q question) []reply {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	list := []reply{d.answer(q)}
	req, err := json.Marshal(q)
	if err != nil {
		return list
	}
	for _, answer := range d.node.Ask(ctx, req) {
		var r reply
		if json.Unmarshal(answer, &r) == nil {
			list = append(list, r)
		}
	}
	return list
}

// Attempts lists a webhook's newest attempts, as far as the nodes that made
// them remember.
func (d *Dispatcher) Attempts(ctx context.Context, id string, limit int) (protocol.WebhookAttempts, error) {
	if _, err := d.find(ctx, id); err != nil {
		return protocol.WebhookAttempts{}, err
	}
	all := []protocol.WebhookAttempt{}
	for _, r := range d.askAll(ctx, question{ID: id, Attempts: limit}) {
		all = append(all, r.Attempts...)
	}
	slices.SortFunc(all, func(a, b protocol.WebhookAttempt) int { return b.Time.Compare(a.Time) })
	return protocol.WebhookAttempts{Attempts: all[:min(limit, len(all))]}, nil
}
