package edge

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/pushd/pushd/protocol"
)

// metrics count what clients do and get. Loops count for themselves and add up
// once a turn.
type metrics struct {
	accepted   atomic.Uint64
	handed     atomic.Uint64
	turnedAway atomic.Uint64
	stalled    atomic.Uint64
	published  atomic.Uint64
	delivered  [forms]atomic.Uint64

	mu       sync.Mutex // guards what follows
	closes   map[protocol.CloseCode]uint64
	refusals map[protocol.Code]uint64
}

// tally is a loop's count of a turn.
type tally struct {
	delivered [forms]uint64
	stalled   uint64
}

// closed counts the close frames that this node sends, those without a code as
// RFC 6455 §7.1.5 names that.
func (m *metrics) closed(code protocol.CloseCode) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closes == nil {
		m.closes = map[protocol.CloseCode]uint64{}
	}
	switch {
	case code == 0:
		code = noStatus
	case code >= 4000:
		code = 4000 // a client's own, which may be as many as it likes
	}
	m.closes[code]++
}

// noStatus stands for a close frame without a code.
const noStatus protocol.CloseCode = 1005

func (m *metrics) refused(code protocol.Code) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refusals == nil {
		m.refusals = map[protocol.Code]uint64{}
	}
	m.refusals[code]++
}

// addUp takes over what a turn has counted.
func (l *loop) addUp() {
	m := &l.server.metrics
	for f, n := range l.tally.delivered {
		if n > 0 {
			m.delivered[f].Add(n)
		}
	}
	if l.tally.stalled > 0 {
		m.stalled.Add(l.tally.stalled)
	}
	l.tally = tally{}
	l.connections.Store(int64(l.count))
	l.feedCount.Store(int64(len(l.feeds)))
}

// serveMetrics answers GET /metrics in Prometheus' text format.
func (s *Server) serveMetrics(w http.ResponseWriter, _ *http.Request) error {
	b := s.appendMetrics(nil)
	if s.options.Metrics != nil {
		b = s.options.Metrics(b)
	}
	w.Header().Set("Cache-Control", "no-store")
	writeBody(w, http.StatusOK, "text/plain; version=0.0.4; charset=utf-8", b)
	return nil
}

func (s *Server) appendMetrics(b []byte) []byte {
	m := &s.metrics
	var connections, feeds int64
	for _, l := range s.allLoops() {
		connections += l.connections.Load()
		feeds += l.feedCount.Load()
	}
	b = appendMetric(b, "pushd_connections", "gauge", "Connections that the event loops hold.", float64(connections))
	b = appendMetric(b, "pushd_client_connections", "gauge", "Connections of clients, those that net/http serves too.", float64(s.guests.count.Load()))
	b = appendMetric(b, "pushd_readers", "gauge", "Clients that read events, over all transports.", float64(s.readers.Load()))
	b = appendMetric(b, "pushd_feeds", "gauge", "Sets of topics that the loops follow for several clients each.", float64(feeds))
	b = appendMetric(b, "pushd_connections_accepted_total", "counter", "Connections accepted.", float64(m.accepted.Load()))
	b = appendMetric(b, "pushd_connections_refused_total", "counter", "Connections without a valid TLS handshake or PROXY header in time.", float64(m.turnedAway.Load()))
	b = appendMetric(b, "pushd_connections_handed_total", "counter", "Connections that went from a loop to net/http.", float64(m.handed.Load()))
	b = appendMetric(b, "pushd_stalls_total", "counter", "Times a reader's socket was full, so that it goes on from the log later.", float64(m.stalled.Load()))
	b = appendMetric(b, "pushd_events_published_total", "counter", "Events that clients of this node published with success.", float64(m.published.Load()))
	b = appendHelp(b, "pushd_events_delivered_total", "counter", "Events and gaps written to clients, by form.")
	for f := range m.delivered {
		b = appendSample(b, "pushd_events_delivered_total", "form", formNames[f], float64(m.delivered[f].Load()))
	}
	b = s.reached.append(b)
	m.mu.Lock()
	defer m.mu.Unlock()
	b = appendHelp(b, "pushd_websocket_closes_total", "counter", "WebSockets closed, by close code.")
	for _, code := range sortedKeys(m.closes) {
		b = appendSample(b, "pushd_websocket_closes_total", "code", strconv.Itoa(int(code)), float64(m.closes[code]))
	}
	b = appendHelp(b, "pushd_refusals_total", "counter", "Requests and commands refused, by error code.")
	for _, code := range sortedKeys(m.refusals) {
		b = appendSample(b, "pushd_refusals_total", "code", string(code), float64(m.refusals[code]))
	}
	return b
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

func appendHelp(b []byte, name, kind, help string) []byte {
	b = append(append(append(append(b, "# HELP "...), name...), ' '), help...)
	b = append(append(append(append(b, "\n# TYPE "...), name...), ' '), kind...)
	return append(b, '\n')
}

func appendMetric(b []byte, name, kind, help string, value float64) []byte {
	b = append(append(appendHelp(b, name, kind, help), name...), ' ')
	return append(strconv.AppendFloat(b, value, 'g', -1, 64), '\n')
}

func appendSample(b []byte, name, label, of string, value float64) []byte {
	b = append(append(append(append(b, name...), '{'), label...), '=')
	b = append(strconv.AppendQuote(b, of), "} "...)
	return append(strconv.AppendFloat(b, value, 'g', -1, 64), '\n')
}
