package webhook

import (
	"context"
	"maps"
	"slices"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// takeUp waits a little until this node goes by a revision of a webhook, and
// lists the partitions that it leads then.
func (d *Dispatcher) takeUp(id string, revision uint64) []uint16 {
	ctx, cancel := context.WithTimeout(d.running, followTimeout)
	defer cancel()
	w := d.node.Catalog().Webhook(id)
	for (w == nil || w.Revision < revision) && broker.Pause(ctx, findPeriod) {
		w = d.node.Catalog().Webhook(id)
	}
	d.follow()
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.endpoints[id]; e == nil || e.hook.Revision < revision {
		return nil
	}
	return slices.Collect(maps.Keys(d.leads))
}

// takenUp returns once the leaders of all partitions go by a revision of a
// webhook: what is published from then on meets its topics and types as they
// are now.
func (d *Dispatcher) takenUp(ctx context.Context, id string, revision uint64) error {
	ctx, cancel := context.WithTimeout(ctx, takeUpTimeout)
	defer cancel()
	for {
		missing := map[uint16]bool{}
		for p := range d.node.Catalog().Partitions {
			missing[uint16(p)] = true
		}
		for _, r := range d.askAll(ctx, question{ID: id, Revision: revision}) {
			for _, p := range r.Leads {
				delete(missing, p)
			}
		}
		if len(missing) == 0 || d.node.Catalog().Webhook(id) == nil {
			return nil
		}
		if !broker.Pause(ctx, pollPeriod) {
			return protocol.OutcomeUnknown.Errorf("the webhook is changed, but the leaders of %d partitions have not taken it up yet, so that events of topics or types that are new to it may be missed there; send the change again", len(missing))
		}
	}
}
