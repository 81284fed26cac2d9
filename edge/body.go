package edge

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/pushd/pushd/protocol"
)

// readBody reads a body of at most limit bytes. Memory grows with what has
// arrived, never by what the client claims.
func readBody(w http.ResponseWriter, r *http.Request, limit int) ([]byte, error) {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Now().Add(bodyTimeout)) // a writer without deadlines is one of a test
	if r.ContentLength > int64(limit) {
		discard(r)
		return nil, tooLarge(limit)
	}
	body := http.MaxBytesReader(w, r.Body, int64(limit))
	b := make([]byte, 0, min(max(r.ContentLength, 512), readChunk)+1)
	for {
		n, err := body.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			_ = c.SetReadDeadline(time.Time{})
			return b, nil
		}
		if err != nil {
			discard(r)
			return nil, bodyError(err, limit)
		}
		if len(b) == cap(b) {
			b = slices.Grow(b, min(len(b), limit+1-len(b)))
		}
	}
}

// decodeStrict decodes one JSON object of known fields. what names it, and like
// is one as it should be.
func decodeStrict(body []byte, v any, what, like string) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil || d.More() {
		return protocol.BadJSON.Errorf("%s is not like %s: %v", what, like, err)
	}
	return nil
}
