package edge

import (
	"context"
	"time"

	"github.com/pushd/pushd/protocol"
)

// maySend says whether the principal may have events sent to an endpoint, which
// it chooses: as much as it may read itself, from where it is to begin. What is
// no topic or no start is refused with the same words as without
// authentication.
func (p *principal) maySend(topics []string, after string) error {
	if p == nil {
		return nil
	}
	var q query
	var err error
	if q.selectors, err = protocol.ParseSelectors(topics); err != nil {
		return err
	}
	if q.start, err = protocol.ParseStart(after, time.Now()); err != nil {
		return err
	}
	return p.permit(&q, protocol.StartLatest, true)
}

// mayPatch says the same of a webhook's change. A webhook keeps its place, so
// with other topics or at another URL it sends what was before, too.
func (p *principal) mayPatch(ctx context.Context, hooks Webhooks, id string, c *protocol.WebhookPatch) error {
	before, err := hooks.Get(ctx, id)
	if err != nil {
		return err
	}
	topics := before.Topics
	if c.Topics != nil {
		topics = *c.Topics
	}
	if err := p.maySend(topics, "latest"); err != nil || c.URL == nil && c.Topics == nil {
		return err
	}
	if err := p.maySend(topics, "earliest"); err != nil {
		e := *asError(err)
		e.Detail = "the webhook keeps its place, so what waits there is sent, too, which takes hist to each of its topics; with sub alone, register another webhook"
		return &e
	}
	return nil
}
