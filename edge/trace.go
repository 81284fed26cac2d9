package edge

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// traceParent is the header of W3C Trace Context that requests and events have.
const traceParent = "traceparent"

// publishing is the span of one request to publish; its zero value is none, and
// costs nothing.
type publishing struct {
	span trace.Span // nil: the server has no tracer
	of   string     // the request's own trace context
	made string     // the span's; "" if it is not sampled
}

// startPublish begins the span of a request whose events are known to be well
// formed, below the span that the request names.
func (s *Server) startPublish(r *http.Request) (context.Context, publishing) {
	if s.options.Tracer == nil {
		return r.Context(), publishing{}
	}
	ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx, span := s.options.Tracer.Start(ctx, "publish", trace.WithSpanKind(trace.SpanKindProducer))
	p := publishing{span: span, of: r.Header.Get(traceParent)}
	if span.SpanContext().IsSampled() {
		carrier := propagation.MapCarrier{}
		propagation.TraceContext{}.Inject(ctx, carrier)
		p.made = carrier[traceParent]
	}
	return ctx, p
}

// carry has an event carry the span, so that whatever is done with it later
// joins the trace. A trace context that the event was given of its own stays,
// and nothing is stored for a span that is not sampled.
func (p publishing) carry(e *protocol.Event) {
	if p.made == "" {
		return
	}
	i, size := -1, len(traceParent)+len(p.made)
	for n, h := range e.Headers {
		if strings.EqualFold(h.Name, traceParent) {
			i = n
			continue
		}
		size += len(h.Name) + len(h.Value)
	}
	switch {
	case size > protocol.MaxHeaderBytes:
	case i >= 0 && e.Headers[i].Value == p.of:
		e.Headers[i].Value = p.made
	case i < 0 && len(e.Headers) < protocol.MaxHeaders:
		at, _ := slices.BinarySearchFunc(e.Headers, traceParent, func(h protocol.Header, name string) int { return strings.Compare(h.Name, name) })
		e.Headers = slices.Insert(e.Headers, at, protocol.Header{Name: traceParent, Value: p.made})
	}
}

// end ends the span of one event.
func (p publishing) end(topic string, done protocol.Published, err error) {
	if p.span == nil {
		return
	}
	defer p.span.End()
	if !p.span.IsRecording() {
		return
	}
	p.span.SetAttributes(attribute.String("messaging.system", "pushd"), attribute.String("messaging.operation.type", "send"), attribute.String("messaging.destination.name", topic))
	if err != nil {
		p.fail(err)
		return
	}
	p.span.SetAttributes(attribute.String("messaging.message.id", done.ID), attribute.Int64("pushd.offset", int64(done.Offset)), attribute.Bool("pushd.duplicate", done.Duplicate))
}

// endBatch ends the span of many. One that failed makes it a failure.
func (p publishing) endBatch(results []broker.Result) {
	if p.span == nil {
		return
	}
	defer p.span.End()
	if !p.span.IsRecording() {
		return
	}
	p.span.SetAttributes(attribute.String("messaging.system", "pushd"), attribute.String("messaging.operation.type", "send"), attribute.Int("messaging.batch.message_count", len(results)))
	failed := 0
	for i := range results {
		if err := results[i].Err; err != nil {
			failed++
			p.fail(err)
		}
	}
	p.span.SetAttributes(attribute.Int("pushd.failed", failed))
}

func (p publishing) fail(err error) {
	e := asError(err)
	p.span.SetAttributes(attribute.String("error.type", string(e.Code)))
	p.span.SetStatus(codes.Error, e.Error())
}
