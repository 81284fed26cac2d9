package edge

import (
	"net/http"
	"net/url"
	"strconv"

	"github.com/pushd/pushd/protocol"
)

// listTopics answers GET /v1/topics?prefix=&after=&limit=.
func (s *Server) listTopics(w http.ResponseWriter, r *http.Request) error {
	q, limit, err := parsePage(r)
	if err != nil {
		return err
	}
	list, err := s.options.Broker.Topics(r.Context(), q.Get("prefix"), q.Get("after"), limit)
	if err != nil {
		return err
	}
	if list.Topics == nil {
		list.Topics = []protocol.TopicInfo{}
	}
	return writeJSON(w, http.StatusOK, list)
}

// getTopic answers GET /v1/topics/{topic}.
func (s *Server) getTopic(w http.ResponseWriter, r *http.Request) error {
	topic := r.PathValue("topic")
	if err := protocol.CheckTopic(topic); err != nil {
		return err
	}
	info, err := s.options.Broker.Topic(r.Context(), topic)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, info)
}

// deleteTopic answers DELETE /v1/topics/{topic}.
func (s *Server) deleteTopic(w http.ResponseWriter, r *http.Request) error {
	topic := r.PathValue("topic")
	if err := protocol.CheckTopic(topic); err != nil {
		return err
	}
	if protocol.SystemTopic(topic) {
		return protocol.Forbidden.Errorf("topic %s belongs to the system; it can't be deleted", clip(topic))
	}
	if err := s.options.Broker.DeleteTopic(r.Context(), topic); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func parseQuery(r *http.Request) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, protocol.BadRequest.Errorf("the query string is malformed: %v", err)
	}
	return q, nil
}

// parsePage reads the query of a list, and how much of it is wanted.
func parsePage(r *http.Request) (q url.Values, limit int, err error) {
	if q, err = parseQuery(r); err != nil {
		return nil, 0, err
	}
	limit, err = parseLimit(q.Get("limit"))
	return q, limit, err
}

func parseLimit(s string) (int, error) {
	if s == "" {
		return protocol.DefaultPageEvents, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > protocol.MaxPageEvents {
		return 0, protocol.BadRequest.Errorf("limit=%s: must be a number from 1 to %d", clip(s), protocol.MaxPageEvents)
	}
	return n, nil
}
