package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// telemetry sends spans to an OpenTelemetry collector over OTLP/HTTP. Its zero
// value, a node without an endpoint, makes none.
type telemetry struct {
	provider *sdktrace.TracerProvider
	sender   *spanSender
}

// openTelemetry begins to send spans, if the configuration or OpenTelemetry's
// standard environment names an endpoint. What is wrong with the environment,
// which may be meant for others, is in the log and does not keep the node down.
func (n *Node) openTelemetry(ctx context.Context) error {
	if n.cfg.network != nil {
		return nil // a simulation sends nothing
	}
	to, err := spansURL(n.cfg.OTLPEndpoint, os.Getenv)
	if err != nil {
		n.log.Warn("no traces are sent", "err", err)
	}
	if to == "" {
		return nil
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(to))
	if err != nil {
		return fmt.Errorf("send traces: %w", err)
	}
	to = withoutPassword(to)
	who, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", "pushd"), attribute.String("service.version", n.cfg.Version),
		attribute.String("service.instance.id", n.home.NodeID), attribute.String("pushd.node.name", n.cfg.NodeName),
	), resource.WithFromEnv()) // last: OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win
	if err != nil {
		n.log.Warn("traces lack some of OTEL_RESOURCE_ATTRIBUTES", "err", err)
	}
	sender := &spanSender{SpanExporter: exporter, log: n.log, to: to}
	// The sampler is OTEL_TRACES_SAMPLER's; without that what the publisher decided, else all.
	n.telemetry = telemetry{sdktrace.NewTracerProvider(sdktrace.WithBatcher(sender), sdktrace.WithResource(who)), sender}
	n.log.Info("traces are sent", "to", to)
	return nil
}

// tracer is nil without an endpoint, so that nothing is done for spans at all.
func (t telemetry) tracer() trace.Tracer {
	if t.provider == nil {
		return nil
	}
	return t.provider.Tracer("github.com/pushd/pushd")
}

// close sends what waits, and gives up when that takes too long.
func (t telemetry) close() {
	if t.provider == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		_ = t.sender.Shutdown(ctx) // ends the request under way, which the provider would wait for
		t.sender.log.Warn("the last traces were not sent", "to", t.sender.to, "err", err)
	}
}

// spanSender tells of a collector that can't be reached once, and again when it
// can: the SDK would print each failure past the log.
type spanSender struct {
	sdktrace.SpanExporter
	log     *slog.Logger
	to      string
	failing atomic.Bool
}

func (s *spanSender) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := s.SpanExporter.ExportSpans(ctx, spans)
	switch was := s.failing.Swap(err != nil); {
	case err != nil && !was:
		s.log.Warn("traces can't be sent; those are lost, others will be tried", "to", s.to, "err", err)
	case err == nil && was:
		s.log.Info("traces are sent again", "to", s.to)
	}
	return nil // all is said
}

// spansURL is where spans go, "" for nowhere. flag comes before the environment.
func spansURL(flag string, env func(string) string) (string, error) {
	if strings.EqualFold(env("OTEL_SDK_DISABLED"), "true") || env("OTEL_TRACES_EXPORTER") == "none" {
		return "", nil
	}
	if flag != "" {
		return collectorURL(flag, "v1/traces")
	}
	name, path := "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", ""
	if env(name) == "" {
		name, path = "OTEL_EXPORTER_OTLP_ENDPOINT", "v1/traces"
	}
	if env(name) == "" {
		return "", nil
	}
	if p := orElse(env("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), env("OTEL_EXPORTER_OTLP_PROTOCOL")); p == "grpc" {
		return "", errors.New("OTEL_EXPORTER_OTLP_PROTOCOL is grpc, which pushd does not speak; set http/protobuf and the collector's port for that, usually 4318")
	}
	to, err := collectorURL(env(name), path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return to, nil
}

func collectorURL(text, path string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", fmt.Errorf("%q is not the URL of a collector, such as http://127.0.0.1:4318", text)
	}
	return u.JoinPath(path).String(), nil
}

// withoutPassword is a collector's URL as logs may have it.
func withoutPassword(to string) string {
	u, err := url.Parse(to)
	if err != nil {
		return "the collector"
	}
	return u.Redacted()
}
