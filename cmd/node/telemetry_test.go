package node

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTheCollectorIsTheFlagsOrTheEnvironments(t *testing.T) {
	const base, own, grpc = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL"
	for what, c := range map[string]struct {
		flag string
		env  map[string]string
		want string
		bad  bool
	}{
		"nothing":         {},
		"flag":            {flag: "http://a:4318", env: map[string]string{base: "http://b:4318"}, want: "http://a:4318/v1/traces"},
		"environment":     {env: map[string]string{base: "https://b/otlp/"}, want: "https://b/otlp/v1/traces"},
		"for traces only": {env: map[string]string{base: "http://b:4318", own: "http://c:4318/in"}, want: "http://c:4318/in"},
		"disabled":        {flag: "http://a:4318", env: map[string]string{"OTEL_SDK_DISABLED": "true"}},
		"no traces":       {env: map[string]string{base: "http://b:4318", "OTEL_TRACES_EXPORTER": "none"}},
		"not a URL":       {env: map[string]string{base: "b:4317"}, bad: true},
		"gRPC":            {env: map[string]string{base: "http://b:4317", grpc: "grpc"}, bad: true},
	} {
		got, err := spansURL(c.flag, func(name string) string { return c.env[name] })
		if got != c.want || (err != nil) != c.bad {
			t.Errorf("%s: got %q, %v; want %q, an error: %v", what, got, err, c.want, c.bad)
		}
	}
}

// newTelemetry is what a node sends to a collector that answers so.
func newTelemetry(t *testing.T, log *slog.Logger, collector http.HandlerFunc) telemetry {
	t.Helper()
	server := httptest.NewServer(collector)
	t.Cleanup(server.Close)
	n := &Node{cfg: Config{OTLPEndpoint: server.URL}, log: log, home: &home{dir: filepath.Join(t.TempDir(), "d")}}
	if err := n.openTelemetry(context.Background()); err != nil {
		t.Fatal(err)
	}
	return n.telemetry
}

func TestAStoppingNodeSendsItsLastSpans(t *testing.T) {
	paths := make(chan string, 1)
	tel := newTelemetry(t, slog.New(slog.DiscardHandler), func(_ http.ResponseWriter, r *http.Request) { paths <- r.URL.Path })
	_, span := tel.tracer().Start(context.Background(), "x")
	span.End()
	tel.close()
	select {
	case got := <-paths:
		if got != "/v1/traces" {
			t.Errorf("sent to %s, want /v1/traces", got)
		}
	default:
		t.Error("nothing was sent before close returned")
	}
}

// lines are what is logged.
type lines chan string

func (l lines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

func TestACollectorThatHangsDoesNotHoldUpTheStop(t *testing.T) {
	out := make(lines, 10)
	end := make(chan struct{})
	tel := newTelemetry(t, slog.New(slog.NewTextHandler(out, nil)), func(http.ResponseWriter, *http.Request) { <-end })
	_, span := tel.tracer().Start(context.Background(), "x")
	span.End()
	began := time.Now()
	tel.close()
	if took := time.Since(began); took > 10*flushTimeout {
		t.Errorf("close took %v, want about %v", took, flushTimeout)
	}
	close(end) // lets the request go, too
	for {
		select {
		case line := <-out:
			if strings.Contains(line, "the last traces were not sent") {
				return
			}
		default:
			t.Fatal("the log does not say that traces are lost")
		}
	}
}
