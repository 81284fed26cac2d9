package client

import (
	"context"
	"net/http"

	"github.com/pushd/pushd/protocol"
)

// poller asks again and again: at once after events, after a pause otherwise,
// or with the waiting done by the server.
type poller struct {
	sub    *Subscription
	server string
	idle   bool
}

func (p *poller) next(ctx context.Context) (batch, error) {
	s := p.sub
	v := s.query()
	v.Set("limit", "1000")
	limit := answerTimeout
	if s.options.Via == LongPoll {
		v.Set("wait", longPollWait.String())
		limit = longPollWait + pollSlack
	} else if p.idle && !sleep(ctx, s.options.PollEvery) {
		return batch{}, ctx.Err()
	}
	body, err := s.client.ask(ctx, limit, p.server, request{method: http.MethodGet, path: "/v1/events?" + v.Encode()})
	if err != nil {
		return batch{}, err
	}
	var page protocol.Page
	if err := parse(body, &page); err != nil {
		return batch{}, err
	}
	p.idle = len(page.Events) == 0 && page.UpToDate
	return pageBatch(&page), nil
}

func (p *poller) close() {}

// pageBatch puts a page's gaps before its events, and gives the last event the
// page's cursor, which may lie behind it.
func pageBatch(page *protocol.Page) batch {
	b := batch{cursor: page.Cursor}
	for i := range page.Gaps {
		b.deliveries = append(b.deliveries, Delivery{Gap: &page.Gaps[i]})
	}
	for i := range page.Events {
		b.deliveries = append(b.deliveries, Delivery{Event: &page.Events[i]})
	}
	return b
}
