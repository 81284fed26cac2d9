package webhook

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/pushd/pushd/broker"
)

// startSpan begins the span of an attempt, a child of the trace context that the
// event carries, and has the request carry the attempt's instead. Without a
// tracer, or for a span that is not sampled, the request passes on the event's:
// a span that nobody records would break the receiver's off the trace.
func (d *Dispatcher) startSpan(ctx context.Context, h http.Header) trace.Span {
	if d.options.Tracer == nil {
		return nil
	}
	carrier := propagation.HeaderCarrier(h)
	ctx = propagation.TraceContext{}.Extract(ctx, carrier)
	ctx, span := d.options.Tracer.Start(ctx, "webhook attempt", trace.WithSpanKind(trace.SpanKindClient))
	if span.SpanContext().IsSampled() {
		propagation.TraceContext{}.Inject(ctx, carrier)
	}
	return span
}

// endSpan says what came of the attempt. span may be nil.
func endSpan(span trace.Span, j job, record *broker.Record, r *result) {
	if span == nil {
		return
	}
	defer span.End()
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(
		attribute.String("messaging.system", "pushd"),
		attribute.String("messaging.operation.type", "process"),
		attribute.String("messaging.destination.subscription.name", j.to.hook.ID),
		attribute.String("messaging.destination.name", record.Topic),
		attribute.String("messaging.message.id", record.ID),
		attribute.Int64("pushd.offset", int64(record.Offset)),
		attribute.Int("pushd.attempt", j.attempt),
		attribute.String("server.address", j.to.url.Hostname()),
	)
	if r.status != 0 {
		span.SetAttributes(attribute.Int("http.response.status_code", r.status))
	}
	if r.verdict != delivered {
		span.SetStatus(codes.Error, r.reason)
	}
}
