package edge

import (
	"strconv"
	"strings"

	"github.com/pushd/pushd/protocol"
)

// format is how a reader wants its events.
type format uint8

const (
	formatJSON   format = iota
	formatNDJSON        // a line per event
	formatSSE
	formatCloudEvents // a JSON array of them
)

// pickFormat reads Accept: the media type that is liked best and known, the
// first of equals. No header takes JSON.
func pickFormat(accept []string) (format, error) {
	header := strings.Join(accept, ",")
	if strings.TrimSpace(header) == "" {
		return formatJSON, nil
	}
	best, liked := formatJSON, 0.0
	for item := range strings.SplitSeq(header, ",") {
		media, q := acceptItem(item)
		if f, known := formatOf(media); known && q > liked {
			best, liked = f, q
		}
	}
	if liked == 0 {
		return 0, protocol.NotAcceptable.Errorf("none of %s is served here; ask for application/json, application/x-ndjson, application/cloudevents-batch+json or text/event-stream", clip(header))
	}
	return best, nil
}

// acceptItem reads one media range and its weight (RFC 9110 §12.5.1).
func acceptItem(item string) (media string, q float64) {
	media, params, _ := strings.Cut(item, ";")
	q = 1
	for p := range strings.SplitSeq(params, ";") {
		if value, ok := strings.CutPrefix(strings.TrimSpace(p), "q="); ok {
			weight, err := strconv.ParseFloat(value, 64)
			if err != nil || !(weight >= 0 && weight <= 1) {
				weight = 0
			}
			q = weight
		}
	}
	return strings.ToLower(strings.TrimSpace(media)), q
}

func formatOf(media string) (format, bool) {
	switch media {
	case "application/json", "*/*", "application/*":
		return formatJSON, true
	case "application/x-ndjson", "application/ndjson":
		return formatNDJSON, true
	case "application/cloudevents-batch+json":
		return formatCloudEvents, true
	case "text/event-stream":
		return formatSSE, true
	}
	return 0, false
}
