package edge

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// query is what a reader asks for, on whichever transport.
type query struct {
	values     url.Values
	selectors  []protocol.Selector
	after      string
	start      protocol.Start
	limit      int
	wait       time.Duration
	onGapError bool
	envelope   bool // SSE: everything as JSON envelopes
	attendee   *attendee
}

// readVary is what the answer to a read depends on.
const readVary = "Accept, Authorization, If-None-Match"

// readEvents answers GET /v1/events and /v1/topics/{topic}/events, whichever
// way they are asked.
func (s *Server) readEvents(w http.ResponseWriter, r *http.Request) error {
	if wantsUpgrade(r) {
		if _, err := handshake(w, r); err != nil {
			return err
		}
		if s.draining.Err() != nil {
			return errDraining()
		}
		return s.adopt(w, r)
	}
	if r.ProtoMajor == 1 && r.Method == http.MethodGet && s.draining.Err() == nil && stays(r) {
		if err := s.adopt(w, r); !errors.Is(err, http.ErrNotSupported) {
			return err
		}
	}
	w.Header().Add("Vary", readVary)
	q, f, err := parseTopicsRead(r)
	if err != nil {
		return err
	}
	if err := s.admit(); err != nil {
		return err
	}
	defer s.leave()
	if f == formatSSE {
		return s.serveSSE(w, r, q)
	}
	return s.poll(w, r, q, f)
}

// parseTopicsRead reads what a poll or a stream asks for, and in which format.
func parseTopicsRead(r *http.Request) (*query, format, error) {
	f, err := pickFormat(r.Header.Values("Accept"))
	if err != nil {
		return nil, f, err
	}
	q, err := parseRead(r)
	if err == nil && len(q.selectors) == 0 {
		err = protocol.BadTopic.Errorf("no topic named; give at least one topic=…")
	}
	return q, f, err
}

// parseRead reads the query string. Parameters that nobody knows are ignored.
func parseRead(r *http.Request) (*query, error) {
	values, err := parseQuery(r)
	if err != nil {
		return nil, err
	}
	q := &query{values: values, after: values.Get("after")}
	if q.selectors, err = parseTopics(r.PathValue("topic"), values["topic"]); err != nil {
		return nil, err
	}
	if q.start, err = protocol.ParseStart(q.after, time.Now()); err != nil {
		return nil, err
	}
	if q.limit, err = parseLimit(values.Get("limit")); err != nil {
		return nil, err
	}
	if q.wait, err = parseWait(values.Get("wait")); err != nil {
		return nil, err
	}
	if q.attendee, err = parseAttendee(values); err != nil {
		return nil, err
	}
	if q.envelope, err = parseBool(values, "envelope"); err != nil {
		return nil, err
	}
	q.onGapError, err = parseOnGap(values.Get("on_gap"))
	return q, err
}

// parseTopics takes the topic of the path, or those of topic=, which may be
// repeated and may each name several with commas between.
func parseTopics(path string, params []string) ([]protocol.Selector, error) {
	if path != "" {
		if err := protocol.CheckTopic(path); err != nil {
			return nil, err
		}
		if len(params) > 0 {
			return nil, protocol.BadRequest.Errorf("the path names topic %s; for several topics ask /v1/events?topic=…&topic=…", clip(path))
		}
		return protocol.ParseSelectors([]string{strings.Clone(path)}) // which would keep the whole request
	}
	var names []string
	for _, p := range params {
		names = append(names, strings.Split(strings.Clone(p), ",")...)
	}
	if len(names) == 0 {
		return nil, nil
	}
	return protocol.ParseSelectors(names)
}

// parseWait reads how long a poll may take: a Go duration, cut to maxWait.
func parseWait(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, protocol.BadRequest.Errorf("wait=%s: must be a duration such as 25s, at most %v", clip(s), maxWait)
	}
	return min(d, maxWait), nil
}

func parseOnGap(s string) (isError bool, err error) {
	switch s {
	case "", "continue":
		return false, nil
	case "error":
		return true, nil
	}
	return false, protocol.BadRequest.Errorf("on_gap=%s: must be error, or left out to go on behind the gap", clip(s))
}

// parseBool reads a parameter that is on or off; unset, it is off.
func parseBool(v url.Values, name string) (bool, error) {
	switch s := v.Get(name); s {
	case "1", "true":
		return true, nil
	case "", "0", "false":
		return false, nil
	default:
		return false, protocol.BadRequest.Errorf("%s=%s: must be 1 or 0", name, clip(s))
	}
}

// open subscribes. live readers get events that are never stored, too.
func (s *Server) open(q *query, unset protocol.StartKind, live bool) (reader, error) {
	return s.subscribe(q.selectors, q.start, broker.SubscribeOptions{Default: unset, OnGapError: q.onGapError, Live: live})
}
