package edge

import (
	"context"
	"net/http"
	"strings"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// poll answers at once or, with wait=, at the first event.
func (s *Server) poll(w http.ResponseWriter, r *http.Request, q *query, f format) error {
	if r.Method == http.MethodHead {
		q.wait = 0 // there is no body to wait for
	}
	who := whoOf(r)
	if err := who.permit(q, protocol.StartEarliest, q.wait > 0); err != nil {
		return err
	}
	q.wait = who.within(q.wait)
	sub, err := s.open(q, protocol.StartEarliest, q.wait > 0)
	if err != nil {
		return err
	}
	defer sub.Close()
	present, err := s.attend(r.Context(), q, nil)
	if err != nil {
		return err
	}
	defer present.end(pollGrace)
	batch, err := s.pollBatch(r.Context(), sub, q, who.gone())
	if err != nil {
		return err
	}
	if r.Context().Err() != nil {
		return nil // the client is gone
	}
	begun := ""
	if q.start.Kind == protocol.StartCursor {
		begun = q.after
	}
	h := w.Header()
	h.Set("Pushd-Cursor", batch.Cursor)
	h.Set("ETag", `W/"`+batch.Cursor+`"`)
	h.Set("Cache-Control", "no-store")
	h.Set("Link", string(appendNextLink(nil, r.RequestURI, batch.Cursor)))
	if len(batch.Items) == 0 && sameCursor(r.Header.Values("If-None-Match"), batch.Cursor, begun) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	body := takeBuffer()
	defer body.put()
	var contentType string
	contentType, body.b = appendPoll(body.b, f, &batch)
	if f != formatJSON {
		h.Set(upToDate, boolText(batch.UpToDate))
	}
	writeBody(w, http.StatusOK, contentType, body.b)
	return nil
}

// upToDate is the header of the answers whose format has no place for it.
const upToDate = "Pushd-Up-To-Date"

// appendPoll writes a page in a format.
func appendPoll(dst []byte, f format, b *broker.Batch) (contentType string, _ []byte) {
	switch f {
	case formatJSON:
		return "application/json", appendPage(dst, b)
	case formatCloudEvents:
		return cloudBatch, appendCloudEvents(dst, b.Items)
	}
	return "application/x-ndjson", appendLines(dst, b.Items)
}

// pollBatch pulls what there is, or what comes first within the wait. A drain
// ends the wait, and so does the reader's key when it is taken out.
func (s *Server) pollBatch(ctx context.Context, sub reader, q *query, gone <-chan struct{}) (broker.Batch, error) {
	if q.wait == 0 {
		sub.Settle(ctx)
		return sub.Pull(q.limit)
	}
	ctx, cancel := context.WithTimeout(ctx, q.wait)
	defer cancel()
	if s.draining.Err() != nil {
		return broker.Batch{}, errDraining() // an empty answer at once would only be asked for again
	}
	defer context.AfterFunc(s.draining, cancel)()
	ready := make(chan struct{}, 1)
	wake := func() {
		select {
		case ready <- struct{}{}:
		default: // a signal is waiting already
		}
	}
	for {
		b, err := sub.Pull(q.limit)
		if err != nil || len(b.Items) > 0 || ctx.Err() != nil {
			return b, err
		}
		if !sub.Arm(wake) {
			continue
		}
		select {
		case <-ready:
		case <-gone:
			return broker.Batch{}, errRevoked()
		case <-ctx.Done():
		}
	}
}

// sameCursor says whether the client has named the position that it is at: as
// the answer gives it, or as the request began, where only other topics' events
// have passed since.
func sameCursor(ifNoneMatch []string, now, begun string) bool {
	for tag := range strings.SplitSeq(strings.Join(ifNoneMatch, ","), ",") {
		tag = strings.Trim(strings.TrimPrefix(strings.TrimSpace(tag), "W/"), `"`)
		if tag != "" && (tag == now || tag == begun) {
			return true
		}
	}
	return false
}

func boolText(b bool) string {
	if b {
		return "true"
	}
	return "false"
}
