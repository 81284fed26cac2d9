package edge

import (
	"strings"
	"testing"

	"github.com/pushd/pushd/protocol"
)

func TestMetricsTellWhatClientsDo(t *testing.T) {
	s := newSite(t, func(o *Options) {
		o.Loops, o.Metrics = 1, func(b []byte) []byte { return append(b, "more 1\n"...) }
	})
	c := s.dialJSON("/v1/events?topic=a")
	c.push()
	s.publishText("a", "1", "2")
	c.event()
	c.event()
	c.send("junk")
	c.wantClose(protocol.CloseBadRequest)
	s.get("/v1/topics/none").wantProblem(protocol.NoSuchTopic)
	s.waitMetric(`{form="websocket_json"} 2` + "\n")
	a := s.get("/metrics").want(200).wantHeader("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	for _, want := range []string{
		"# TYPE pushd_connections gauge\n",
		"pushd_readers 1\n",
		"pushd_events_published_total 2\n",
		`pushd_events_delivered_total{form="websocket_json"} 2` + "\n",
		`pushd_websocket_closes_total{code="3501"} 1` + "\n",
		`pushd_refusals_total{code="no_such_topic"} 1` + "\n",
		"more 1\n",
	} {
		if !strings.Contains(a.Body, want) {
			t.Errorf("got %s, want %q in it", a.Body, want)
		}
	}
}
