package edge

import (
	"net/http"
	"strconv"

	"github.com/pushd/pushd/protocol"
)

// restore answers POST /v1/cluster/restore?id=N: the body is frames of events of
// a snapshot file, in their order. Requests of one restore have the same number;
// sending one again is safe.
func (s *Server) restore(w http.ResponseWriter, r *http.Request) error {
	id, err := strconv.ParseUint(r.URL.Query().Get("id"), 10, 64)
	if err != nil || id == 0 {
		return protocol.BadRequest.Errorf("id is missing: a number above 0, the same for all requests of one restore, and used by no other")
	}
	body, err := readBody(w, r, maxRestoreBody)
	if err != nil {
		return err
	}
	events, err := s.snapshotEvents(body)
	if err != nil {
		return err
	}
	result, err := s.options.Broker.Restore(r.Context(), id, events)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, result)
}

// snapshotEvents reads the frames and checks each event.
func (s *Server) snapshotEvents(body []byte) (events []protocol.Event, err error) {
	for len(body) > 0 {
		p, n, err := protocol.NextSnapshotPart(body)
		if err == nil && (n == 0 || p.Event == nil) {
			err = protocol.ErrSnapshot
		}
		if err != nil {
			return nil, protocol.BadRequest.Errorf("event %d of the body: %v", len(events)+1, err)
		}
		if p.Event.Offset == 0 || p.Event.Offset > 1<<62 || p.Event.Time <= 0 {
			return nil, protocol.BadRequest.Errorf("event %d of the body has no offset or no time", len(events)+1)
		}
		if !protocol.SystemTopic(p.Event.Topic) {
			if err := p.Event.Check(s.options.MaxEventBytes); err != nil {
				return nil, err
			}
		}
		if len(events) == protocol.MaxBatchEvents {
			return nil, protocol.PayloadTooLarge.Errorf("more than %d events in one request", protocol.MaxBatchEvents)
		}
		events, body = append(events, *p.Event), body[n:]
	}
	return events, nil
}
