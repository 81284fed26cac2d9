package webhook

import (
	"fmt"
	"time"

	"github.com/pushd/pushd/protocol"
)

// counters are this node's since its start. The dispatcher's mutex guards them.
type counters struct {
	stats  protocol.WebhookStats
	saves  uint64 // progress entries
	gaps   uint64 // ranges of events that were gone before they could be sent
	took   [len(latencies) + 1]uint64
	tookIn time.Duration
}

// latencies are the buckets of how long endpoints take to answer.
var latencies = [...]time.Duration{
	5 * time.Millisecond, 25 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second, 5 * time.Second, 15 * time.Second,
}

func (c *counters) answered(took time.Duration) {
	i := 0
	for i < len(latencies) && took > latencies[i] {
		i++
	}
	c.took[i]++
	c.tookIn += took
}

// AppendMetrics writes what this node has sent, in Prometheus' text format. Of
// single webhooks GET /v1/webhooks tells: there may be thousands.
func (d *Dispatcher) AppendMetrics(dst []byte) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := &d.counters
	add := func(name, kind, help string, v any) {
		dst = fmt.Appendf(dst, "# HELP pushd_webhook_%s %s\n# TYPE pushd_webhook_%s %s\npushd_webhook_%s %v\n", name, help, name, kind, name, v)
	}
	add("attempts_total", "counter", "Requests to webhook endpoints.", c.stats.Attempts)
	add("delivered_total", "counter", "Requests that were answered 2xx.", c.stats.Delivered)
	add("failures_total", "counter", "Requests that failed.", c.stats.Failed)
	add("dead_letters_total", "counter", "Events that were given up.", c.stats.Dead)
	add("gaps_total", "counter", "Ranges of events that retention took before they could be sent.", c.gaps)
	add("progress_entries_total", "counter", "Log entries that replicated progress.", c.saves)
	add("in_flight", "gauge", "Requests under way.", d.inFlight)
	open, failing := 0, 0
	for _, e := range d.endpoints {
		if e.breaker.open {
			open++
		}
		if e.failing != 0 {
			failing++
		}
	}
	add("endpoints", "gauge", "Endpoints that are registered.", len(d.endpoints))
	add("endpoints_failing", "gauge", "Endpoints whose last answer to this node was a failure.", failing)
	add("breakers_open", "gauge", "Endpoints that get single probes only.", open)
	dst = append(dst, "# HELP pushd_webhook_attempt_seconds How long endpoints take to answer.\n# TYPE pushd_webhook_attempt_seconds histogram\n"...)
	sum := uint64(0)
	for i, most := range latencies {
		sum += c.took[i]
		dst = fmt.Appendf(dst, "pushd_webhook_attempt_seconds_bucket{le=\"%v\"} %d\n", most.Seconds(), sum)
	}
	sum += c.took[len(latencies)]
	dst = fmt.Appendf(dst, "pushd_webhook_attempt_seconds_bucket{le=\"+Inf\"} %d\n", sum)
	return fmt.Appendf(dst, "pushd_webhook_attempt_seconds_sum %v\npushd_webhook_attempt_seconds_count %d\n", c.tookIn.Seconds(), sum)
}
