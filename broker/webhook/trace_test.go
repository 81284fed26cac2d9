package webhook

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/pushd/pushd/protocol"
)

const publishSpan = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// publishTraced publishes an event that carries a span, or none.
func (c *cluster) publishTraced(parent string) {
	c.t.Helper()
	e := protocol.Event{Topic: "a", Data: []byte("x")}
	if parent != "" {
		e.Headers = []protocol.Header{{Name: "traceparent", Value: parent}}
	}
	if _, err := c.broker.Publish(context.Background(), &protocol.Publish{Event: e}); err != nil {
		c.t.Fatal(err)
	}
}

func TestEachAttemptIsASpanBelowThePublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spans := tracetest.NewSpanRecorder()
		provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
		c := newCluster(t, 1, Options{NoVerify: true, Tracer: provider.Tracer("test")})
		defer c.close()
		c.world.serve("a.example", func(r request) (int, http.Header, error) {
			if r.n == 1 {
				return 503, nil, nil
			}
			return 204, nil, nil
		})
		w := c.create(protocol.WebhookSpec{})
		c.publishTraced(publishSpan)
		time.Sleep(time.Minute)
		ended, got := spans.Ended(), c.world.requests("a.example")
		if len(ended) != 2 || len(got) != 2 {
			t.Fatalf("got %d spans and %d requests, want 2 of each", len(ended), len(got))
		}
		for i, span := range ended {
			made := "00-" + span.SpanContext().TraceID().String() + "-" + span.SpanContext().SpanID().String() + "-01"
			if parent := span.Parent().SpanID().String(); !strings.Contains(publishSpan, parent) || got[i].header.Get("Traceparent") != made {
				t.Errorf("attempt %d: span %s below %s, request with %s; want one below the publish, and the request with it", i+1, made, parent, got[i].header.Get("Traceparent"))
			}
			about := attribute.NewSet(span.Attributes()...)
			id, _ := about.Value("messaging.destination.subscription.name")
			attempt, _ := about.Value("pushd.attempt")
			status, _ := about.Value("http.response.status_code")
			if id.AsString() != w.ID || attempt.AsInt64() != int64(i+1) || status.AsInt64() != []int64{503, 204}[i] {
				t.Errorf("attempt %d: got %v", i+1, span.Attributes())
			}
			if failed := span.Status().Code == codes.Error; failed != (i == 0) {
				t.Errorf("attempt %d: got status %v", i+1, span.Status())
			}
		}
	})
}

func TestWhatIsNotTracedHerePassesOnTheEventsTrace(t *testing.T) {
	unsampled := strings.TrimSuffix(publishSpan, "1") + "0"
	provider := sdktrace.NewTracerProvider()
	for what, o := range map[string]Options{
		"no tracer":   {NoVerify: true},
		"not sampled": {NoVerify: true, Tracer: provider.Tracer("test")},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 1, o)
				defer c.close()
				c.create(protocol.WebhookSpec{})
				c.publishTraced(unsampled)
				time.Sleep(time.Second)
				if got := c.world.requests("a.example"); len(got) != 1 || got[0].header.Get("Traceparent") != unsampled {
					t.Errorf("got %d requests, want one with the event's traceparent", len(got))
				}
			})
		})
	}
}
