package edge

import (
	"net/http"
	"strconv"

	"github.com/pushd/pushd/protocol"
)

// parseProducer reads the headers of a publisher that numbers its events:
// Pushd-Producer, Pushd-Producer-Epoch (0 if left out) and Pushd-Producer-Seq.
// nil without the first.
func parseProducer(h http.Header, ack protocol.Ack) (*protocol.Producer, error) {
	p := &protocol.Producer{ID: h.Get("Pushd-Producer")}
	seq := h.Get("Pushd-Producer-Seq")
	if h["Pushd-Producer"] == nil {
		if seq != "" || h.Get("Pushd-Producer-Epoch") != "" {
			return nil, protocol.BadRequest.Errorf("Pushd-Producer is missing, whose epoch or sequence number is given")
		}
		return nil, nil
	}
	if ack == protocol.AckNone {
		return nil, protocol.BadRequest.Errorf("Pushd-Producer needs an event that is stored; leave out Pushd-Ack: none")
	}
	if seq == "" {
		return nil, protocol.BadRequest.Errorf("Pushd-Producer-Seq is missing: the event's number among the producer's, from 0")
	}
	for name, to := range map[string]*uint64{"Pushd-Producer-Epoch": &p.Epoch, "Pushd-Producer-Seq": &p.Seq} {
		text := h.Get(name)
		if text == "" {
			continue
		}
		n, err := strconv.ParseUint(text, 10, 62)
		if err != nil || text[0] == '+' {
			return nil, protocol.BadRequest.Errorf("%s %s: must be a number from 0", name, clip(text))
		}
		*to = n
	}
	return p, p.Check()
}
