package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// stateTopic gets an event for whatever an owner or operator would want to
// know; deadTopic and a webhook's id name the topic of its dead letters.
const (
	stateTopic = "$webhook.state"
	deadTopic  = "$webhook.dead."
)

// Types of events of stateTopic, behind "pushd.webhook.".
const (
	stateFailing   = "failing"
	stateRecovered = "recovered"
	stateDisabled  = "disabled"
	stateVerified  = "verified"
	stateDead      = "dead_letter"
	stateGap       = "gap"
)

// tell publishes an event about an endpoint: once in an hour, whichever of the
// nodes that send to it notice. d.mu is held.
func (d *Dispatcher) tell(e *endpoint, kind string, at time.Time, detail map[string]any) {
	d.tellOnce(e, kind, fmt.Sprintf("%s/%s/%d", e.hook.ID, kind, at.Unix()/3600), detail)
}

// tellOnce publishes an event under an id, so that a new leader's word does not
// come beside the old one's.
func (d *Dispatcher) tellOnce(e *endpoint, kind, id string, detail map[string]any) {
	if covers(e.selectors, stateTopic) && kind != stateDisabled {
		return // of its own troubles it would hear without end
	}
	all := map[string]any{"webhook": e.hook.ID, "url": e.hook.Spec.URL, "description": e.hook.Spec.Description}
	maps.Copy(all, detail)
	data, err := json.Marshal(all)
	if err != nil {
		d.log.Error("webhook event could not be encoded", "err", err)
		return
	}
	d.spawn(func() {
		_, err := d.broker.Publish(d.running, &protocol.Publish{Event: protocol.Event{
			Topic: stateTopic, ID: id, Type: "pushd.webhook." + kind, ContentType: "application/json", Data: data,
		}})
		if err != nil {
			d.log.Warn("webhook event could not be published", "webhook", e.hook.ID, "kind", kind, "err", err)
		}
	})
}

// bury publishes an event that is given up to the webhook's dead letters, and
// says whether it is stored there. Only then the event is settled: at the worst
// the dead letter is stored twice.
func (d *Dispatcher) bury(j job, record *broker.Record, r *result, why string) bool {
	id := j.to.hook.ID
	topic := deadTopic + id
	if record.Topic == topic {
		return true // it is there already
	}
	ctx, cancel := context.WithTimeout(d.running, saveTimeout)
	defer cancel()
	e := record.Event
	e.Topic, e.ID = topic, messageID(j.lane.lead.partition, &record.Event)
	e.Headers = deadHeaders(&record.Event, r, why)
	if _, err := d.broker.Publish(ctx, &protocol.Publish{Event: e}); err != nil {
		d.log.Warn("a dead letter could not be stored; trying again", "webhook", id, "err", err)
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	j.endpoint.stats.Dead++
	d.counters.stats.Dead++
	d.tellOnce(j.endpoint, stateDead, id+"/"+e.ID, map[string]any{
		"topic": record.Topic, "offset": record.Offset, "event_id": record.ID, "reason": why, "error": r.reason,
	})
	return true
}

// deadHeaders are the event's, as far as there is room, and what happened to it.
func deadHeaders(e *protocol.Event, r *result, why string) []protocol.Header {
	list := []protocol.Header{
		{Name: "pushd-dead-error", Value: shorten(strings.Map(printable, r.reason), 300)},
		{Name: "pushd-dead-event-id", Value: e.ID},
		{Name: "pushd-dead-offset", Value: strconv.FormatUint(e.Offset, 10)},
		{Name: "pushd-dead-reason", Value: why},
		{Name: "pushd-dead-time", Value: r.at.UTC().Format(time.RFC3339Nano)},
		{Name: "pushd-dead-topic", Value: e.Topic},
	}
	size := 0
	for _, h := range list {
		size += len(h.Name) + len(h.Value)
	}
	for _, h := range e.Headers {
		if size += len(h.Name) + len(h.Value); size > protocol.MaxHeaderBytes || len(list) >= protocol.MaxHeaders {
			break
		}
		list = append(list, h)
	}
	return list
}

func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return ' '
	}
	return r
}

// missed tells of events that retention took before they were delivered. d.mu is
// held.
func (d *Dispatcher) missed(n *lane, gaps []protocol.Gap) {
	d.counters.gaps += uint64(len(gaps))
	for _, g := range gaps {
		n.touch()
		if n.endpoint.gaps == nil {
			n.endpoint.gaps = map[string]protocol.Gap{}
		}
		if len(n.endpoint.gaps) < maxGaps {
			n.endpoint.gaps[g.Topic] = g
		}
		d.tellOnce(n.endpoint, stateGap, fmt.Sprintf("%s/%s/%d/%d-%d", n.id, g.Topic, g.Epoch, g.From, g.To), map[string]any{"gap": g})
		n.endpoint.lastError = d.now().UTC().Format(time.RFC3339) + fmt.Sprintf(" events %d to %d of %s were gone (%s) before they could be delivered", g.From, g.To, g.Topic, g.Reason)
	}
	if len(gaps) > 0 {
		n.lead.changed(0, 0)
	}
}

// vanished tells of one event that was gone when its turn came. d.mu is held.
func (d *Dispatcher) vanished(j job) {
	d.counters.gaps++
	n := j.lane
	detail := map[string]any{"partition": n.lead.partition, "position": j.item.position}
	if j.item.topic != "" {
		detail["topic"] = j.item.topic
	}
	d.tellOnce(j.endpoint, stateGap, fmt.Sprintf("%s/%d/%d", n.id, n.lead.partition, j.item.position), detail)
	j.endpoint.lastError = d.now().UTC().Format(time.RFC3339) + " an event was gone by retention before it could be delivered"
}

// disable ends deliveries to an endpoint, here at once, and everywhere when the
// catalog says so. Its place in every partition stays. d.mu is held.
func (d *Dispatcher) disable(e *endpoint, reason string) {
	if e.stopping {
		return
	}
	e.stopping = true
	d.tellOnce(e, stateDisabled, fmt.Sprintf("%s/%s/%d", e.hook.ID, stateDisabled, e.hook.Revision), map[string]any{"reason": reason})
	id := e.hook.ID
	d.spawn(func() {
		for {
			err := d.change(d.running, id, func(w *broker.Webhook) error {
				w.Disabled = shorten(reason, 500)
				return nil
			})
			if err == nil || protocol.CodeOf(err) == protocol.NoSuchWebhook || !broker.Pause(d.running, time.Second) {
				return
			}
			d.log.Warn("webhook could not be disabled; trying again", "webhook", id, "err", err)
		}
	})
}
