package integration

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// spanStore is an OpenTelemetry collector that keeps what it gets.
type spanStore struct {
	t      testing.TB
	server *httptest.Server

	mu   sync.Mutex // guards what follows
	got  []storedSpan
	news chan struct{} // capacity 1
}

// storedSpan is a span and the node that sent it.
type storedSpan struct {
	*otlp.Span
	node string
}

func newSpanStore(t testing.TB) *spanStore {
	t.Helper()
	s := &spanStore{t: t, news: make(chan struct{}, 1)}
	s.server = httptest.NewServer(s)
	t.Cleanup(s.server.Close)
	return s
}

func (s *spanStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var in collector.ExportTraceServiceRequest
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &in) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, from := range in.ResourceSpans {
		node := ""
		for _, a := range from.Resource.Attributes {
			if a.Key == "pushd.node.name" {
				node = a.Value.GetStringValue()
			}
		}
		for _, scope := range from.ScopeSpans {
			for _, span := range scope.Spans {
				s.got = append(s.got, storedSpan{span, node})
			}
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// wait returns the spans of a name in a trace once there are n.
func (s *spanStore) wait(name, trace string, n int) []storedSpan {
	s.t.Helper()
	deadline := time.After(readyWithin)
	for {
		var found []storedSpan
		s.mu.Lock()
		for _, span := range s.got {
			if span.Name == name && hex.EncodeToString(span.TraceId) == trace {
				found = append(found, span)
			}
		}
		s.mu.Unlock()
		if len(found) >= n {
			return found
		}
		select {
		case <-s.news:
		case <-deadline:
			s.t.Fatalf("spans %q of trace %s: got %d, want %d", name, trace, len(found), n)
		}
	}
}

// traceParent names a span as requests do.
func traceParent(span storedSpan) string {
	return "00-" + hex.EncodeToString(span.TraceId) + "-" + hex.EncodeToString(span.SpanId) + "-01"
}

func TestATraceLeadsFromThePublisherOverNodesToTheReceiver(t *testing.T) {
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "50") // milliseconds
	spans := newSpanStore(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", spans.server.URL)
	nodes := startOpenCluster(t)
	r := newReceiver(t, func(n int, _ delivery) int {
		if n == 1 {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	w := nodes[0].register(r, `"topics":["traced"]`)
	const trace, caller = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	if status, _ := nodes[1].publish("traced", "x", "traceparent", "00-"+trace+"-"+caller+"-01"); status != http.StatusCreated {
		t.Fatalf("publish: got %d, want 201", status)
	}
	got := r.wait("the event and its repetition", atLeast(2))

	publish := spans.wait("publish", trace, 1)[0]
	if parent := hex.EncodeToString(publish.ParentSpanId); parent != caller || publish.node != nodes[1].name {
		t.Errorf("publish: got a span of %s below %s, want one of %s below %s", publish.node, parent, nodes[1].name, caller)
	}
	attempts := spans.wait("webhook attempt", trace, 2)
	for i, span := range attempts[:2] {
		if string(span.ParentSpanId) != string(publish.SpanId) {
			t.Errorf("attempt %d: below span %x, want the publish's %x", i, span.ParentSpanId, publish.SpanId)
		}
		if sent := got[i].header.Get("Traceparent"); sent != traceParent(span) {
			t.Errorf("attempt %d: the request has traceparent %s, want %s", i, sent, traceParent(span))
		}
		about := map[string]string{}
		for _, a := range span.Attributes {
			about[a.Key] = a.Value.GetStringValue()
		}
		if about["messaging.destination.subscription.name"] != w.ID || about["messaging.destination.name"] != "traced" {
			t.Errorf("attempt %d: got %v, want webhook %s and topic traced", i, about, w.ID)
		}
	}
	if first, second := attempts[0].Status.GetCode(), attempts[1].Status.GetCode(); first != otlp.Status_STATUS_CODE_ERROR || second == otlp.Status_STATUS_CODE_ERROR {
		t.Errorf("status of the attempts: got %v and %v, want an error and none", first, second)
	}
}
