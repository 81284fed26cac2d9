package webhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/pushd/pushd/broker"
)

// job is one event on its way to its endpoint.
type job struct {
	lane *lane
	item *item
	ctx  context.Context // ends when this node no longer leads the partition

	endpoint *endpoint
	to       *target // as the endpoint was when the request began
	host     *host
	attempt  int
	gaps     bool // some topic's next event has to tell of a gap
}

// exchange sends a request and reads what it needs of the answer. The status
// decides, whatever happens behind it.
func (d *Dispatcher) exchange(req *http.Request) (r result) {
	began := d.now()
	defer func() { r.at, r.took = began, d.now().Sub(began) }()
	resp, err := d.transport.RoundTrip(req)
	if err != nil {
		return lost(err)
	}
	r = judge(resp.StatusCode, resp.Header, began)
	r.body = readAnswer(resp.Body)
	return r
}

// readAnswer keeps the beginning of a body and reads so much of the rest that
// a connection can be used again. What is longer, or too slow, costs it.
func readAnswer(body io.ReadCloser) []byte {
	defer func() { _ = body.Close() }()
	kept, err := io.ReadAll(io.LimitReader(body, keptAnswer))
	if err == nil && len(kept) == keptAnswer {
		_, _ = io.CopyN(io.Discard, body, maxAnswerBytes)
	}
	return kept
}

// lost is an attempt that got no answer.
func lost(err error) result {
	r := result{verdict: failed, blamed: true, reason: shorten(err.Error(), 300), blocked: errors.Is(err, errBlocked)}
	if timeout, ok := errors.AsType[net.Error](err); errors.Is(err, context.DeadlineExceeded) || ok && timeout.Timeout() {
		r.reason = fmt.Sprintf("no answer within %v", attemptTimeout)
	}
	return r
}

// attempt reads the event and sends it.
func (d *Dispatcher) attempt(j job) (*broker.Record, result) {
	partition := j.lane.lead.partition
	record, err := d.broker.RecordAt(partition, j.item.position)
	switch {
	case err != nil:
		return nil, result{verdict: unread, reason: err.Error(), at: d.now()}
	case record == nil:
		return nil, result{verdict: vanished, at: d.now()}
	case j.to.types != nil && !j.to.types[record.Type]:
		return record, result{verdict: filtered, at: d.now()}
	}
	ctx, cancel := context.WithTimeout(j.ctx, attemptTimeout)
	defer cancel()
	o := outgoingEvent(j.to.hook.Spec.Format, partition, record)
	o.header["Pushd-Attempt"] = []string{strconv.Itoa(j.attempt)}
	if j.gaps {
		d.gapHeader(j.endpoint, record.Topic, o.header)
	}
	if j.lane.until != 0 {
		o.header["Pushd-Replay"] = []string{"1"}
	}
	span := d.startSpan(ctx, o.header)
	r := d.exchange(o.request(ctx, http.MethodPost, j.to, d.now()))
	if r.status == 0 && j.ctx.Err() != nil {
		r.verdict = canceled
	}
	endSpan(span, j, record, &r)
	return record, r
}

// gapHeader tells the endpoint which events before this one it will never get.
func (d *Dispatcher) gapHeader(e *endpoint, topic string, h http.Header) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if g, ok := e.gaps[topic]; ok {
		h["Pushd-Gap"] = []string{fmt.Sprintf("%d-%d; reason=%s", g.From, g.To, g.Reason)}
	}
}

// since is how long ago a time in milliseconds since 1970 was.
func since(ms int64, now time.Time) time.Duration { return now.Sub(time.UnixMilli(ms)) }
