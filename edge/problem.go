package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/pushd/pushd/protocol"
)

// asError is err as a client may see it: details of what has no code stay in
// the log.
func asError(err error) *protocol.Error {
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return e
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return protocol.PayloadTooLarge.Errorf("the request body is too large: %v", err)
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return protocol.RequestTimeout.Errorf("the request body did not arrive within %v", bodyTimeout)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return protocol.StoreTimeout.Errorf("no answer in time; if this was a publish, the event may be stored or not: sending it again with the same event id is safe")
	}
	return protocol.Internal.Errorf("the node could not answer this; its log says more")
}

// writeProblem answers with application/problem+json.
func writeProblem(w http.ResponseWriter, err error) {
	e := *asError(err)
	status := e.Code.Status()
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		e.RetryAfter = max(e.RetryAfter, time.Second)
	}
	h := w.Header()
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10))
	}
	if challenge := challengeOf(&e); challenge != "" {
		h.Set("WWW-Authenticate", challenge)
	}
	h.Del("ETag")
	h.Set("Cache-Control", "no-store")
	writeBody(w, status, "application/problem+json", protocol.AppendProblem(nil, &e))
}

// challengeOf says how to get in (RFC 6750 §3), "" for other errors.
func challengeOf(e *protocol.Error) string {
	switch {
	case e.Code == protocol.Unauthorized:
		return `Bearer realm="pushd"`
	case e.Code == protocol.Forbidden:
		return `Bearer realm="pushd", error="insufficient_scope"`
	case e.Code.Status() == http.StatusUnauthorized:
		return `Bearer realm="pushd", error="invalid_token"`
	}
	return ""
}

// writeBody answers with a whole body.
func writeBody(w http.ResponseWriter, status int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client is gone: there is no one left to tell
}

// writeJSON answers with v.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode an answer: %w", err)
	}
	w.Header().Set("Cache-Control", "no-store")
	writeBody(w, status, "application/json", append(body, '\n'))
	return nil
}

// limitWrite says how long the client may take over what is written from now
// on, 0 for ever. A writer without deadlines is one of a test.
func limitWrite(w http.ResponseWriter, d time.Duration) {
	var at time.Time
	if d > 0 {
		at = time.Now().Add(d)
	}
	_ = http.NewResponseController(w).SetWriteDeadline(at)
}

// clip shows untrusted text in an error.
func clip(s string) string {
	const most = 80
	if len(s) > most {
		return fmt.Sprintf("%.*q…", most, s[:most])
	}
	return fmt.Sprintf("%q", s)
}
