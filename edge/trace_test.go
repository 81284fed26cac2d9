package edge

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/pushd/pushd/protocol"
)

const (
	callersTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	callersSpan  = "00f067aa0ba902b7"
	callers      = "00-" + callersTrace + "-" + callersSpan + "-01"
)

// newTracedSite is a site whose spans can be looked at.
func newTracedSite(t *testing.T) (*site, *tracetest.SpanRecorder) {
	t.Helper()
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	return newSite(t, func(o *Options) { o.Tracer = provider.Tracer("test") }), spans
}

// carried are the headers that a topic's last event has.
func (s *site) carried(topic string) map[string]string {
	s.t.Helper()
	list := s.get("/v1/topics/" + topic + "/events?after=-1").page().Events
	if len(list) != 1 {
		s.t.Fatalf("last event of %s: got %d", topic, len(list))
	}
	return list[0].Headers
}

func wantSpan(t *testing.T, spans *tracetest.SpanRecorder) sdktrace.ReadOnlySpan {
	t.Helper()
	ended := spans.Ended()
	spans.Reset()
	if len(ended) != 1 {
		t.Fatalf("spans: got %d, want 1", len(ended))
	}
	return ended[0]
}

// textOf is how an event names a span.
func textOf(span sdktrace.ReadOnlySpan) string {
	return "00-" + span.SpanContext().TraceID().String() + "-" + span.SpanContext().SpanID().String() + "-01"
}

func TestAnEventCarriesTheSpanOfItsPublish(t *testing.T) {
	s, spans := newTracedSite(t)
	s.do("POST", "/v1/topics/a/events", "x", "Traceparent", callers, "Pushd-Header-Shop", "7", "Pushd-Header-Zoo", "8").want(201)
	span := wantSpan(t, spans)
	if got := span.Parent().SpanID().String(); got != callersSpan || span.SpanContext().TraceID().String() != callersTrace {
		t.Errorf("span below %s of trace %s, want the caller's %s", got, span.SpanContext().TraceID(), callers)
	}
	if got := s.carried("a"); got["traceparent"] != textOf(span) || got["shop"] != "7" || got["zoo"] != "8" {
		t.Errorf("the event carries %v, want traceparent %s beside its own headers", got, textOf(span))
	}
	s.do("POST", "/v1/topics/b/events", "x").want(201)
	if got, want := s.carried("b")["traceparent"], textOf(wantSpan(t, spans)); got != want {
		t.Errorf("a publish outside of any trace: the event carries %q, want %q", got, want)
	}
}

func TestAnEventsOwnTraceStays(t *testing.T) {
	s, spans := newTracedSite(t)
	s.do("POST", "/v1/topics/a/events", "x", "Traceparent", callers, "Pushd-Header-Traceparent", "00-own").want(201)
	if got := s.carried("a")["traceparent"]; got != "00-own" {
		t.Errorf("the event carries %q, want its own", got)
	}
	spans.Reset()
	s.do("POST", "/v1/events", `{"topic":"b","data":1,"headers":{"traceparent":"00-own"}}`+"\n"+`{"topic":"c","data":1}`, "Traceparent", callers).want(200)
	span := wantSpan(t, spans)
	if b, c := s.carried("b")["traceparent"], s.carried("c")["traceparent"]; b != "00-own" || c != textOf(span) {
		t.Errorf("the batch's events carry %q and %q, want their own and %q", b, c, textOf(span))
	}
}

func TestNothingIsStoredForAPublishThatIsNotSampled(t *testing.T) {
	s, spans := newTracedSite(t)
	unsampled := strings.TrimSuffix(callers, "1") + "0"
	s.do("POST", "/v1/topics/a/events", "x", "Traceparent", unsampled).want(201)
	if got, n := s.carried("a")["traceparent"], len(spans.Ended()); got != unsampled || n != 0 {
		t.Errorf("got %q and %d spans, want the caller's %q and none", got, n, unsampled)
	}
}

func TestARefusedPublishIsAFailedSpan(t *testing.T) {
	s, spans := newTracedSite(t)
	s.publishText("a", "x")
	spans.Reset()
	s.do("POST", "/v1/topics/a/events", "y", "If-Match", "7").wantProblem(protocol.OffsetMismatch)
	if span := wantSpan(t, spans); span.Status().Code != codes.Error {
		t.Errorf("status of the span: got %v, want an error", span.Status())
	}
}

// tracedPublish does what a publish does for its span.
func (s *Server) tracedPublish(r *http.Request, e *protocol.Event) {
	_, span := s.startPublish(r)
	span.carry(e)
	span.end("a", protocol.Published{}, nil)
}

func TestPublishesWithoutATracerAllocateNothingForSpans(t *testing.T) {
	s, r, e := New(Options{}), httptest.NewRequest("POST", "/v1/topics/a/events", nil), protocol.Event{}
	if n := testing.AllocsPerRun(100, func() { s.tracedPublish(r, &e) }); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

func BenchmarkSpanOfAPublish(b *testing.B) {
	kept := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(tracetest.NewSpanRecorder()))
	left := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))
	for name, tracer := range map[string]trace.Tracer{"none": nil, "not-sampled": left.Tracer("b"), "sampled": kept.Tracer("b")} {
		b.Run(name, func(b *testing.B) {
			s, r := New(Options{Tracer: tracer}), httptest.NewRequest("POST", "/v1/topics/a/events", nil)
			r.Header.Set("Traceparent", callers)
			b.ReportAllocs()
			for b.Loop() {
				s.tracedPublish(r, &protocol.Event{})
			}
		})
	}
}

func TestATraceNeverMakesAnEventsHeadersTooMany(t *testing.T) {
	s, _ := newTracedSite(t)
	room := protocol.MaxHeaderBytes - len("big")
	s.do("POST", "/v1/topics/a/events", "x", "Pushd-Header-Big", strings.Repeat("b", room)).want(201)
	if got := s.carried("a"); len(got) != 1 {
		t.Errorf("got %d headers, want the one that fills the room", len(got))
	}
}
