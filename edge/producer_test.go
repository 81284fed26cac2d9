package edge

import (
	"net/http"
	"strings"
	"testing"

	"github.com/pushd/pushd/protocol"
)

func TestAProducerNumbersItsEvents(t *testing.T) {
	s := newSite(t)
	at := "/v1/topics/a/events"
	send := func(epoch, seq string) answer {
		return s.do(http.MethodPost, at, "x", "Pushd-Producer", "billing", "Pushd-Producer-Epoch", epoch, "Pushd-Producer-Seq", seq)
	}
	send("1", "0").want(201)
	send("1", "0").want(200) // sent again
	if a := send("1", "7"); !strings.Contains(a.wantProblem(protocol.SequenceMismatch).Body, `"expected":1`) || a.Status != 409 {
		t.Errorf("got %d %s, want 409 with the expected number", a.Status, a.Body)
	}
	send("1", "1").want(201)
	send("2", "0").want(201) // another instance takes over
	if a := send("1", "2").wantProblem(protocol.ProducerFenced); a.Status != 403 {
		t.Errorf("got %d, want 403", a.Status)
	}
}

func TestAProducersHeadersAreChecked(t *testing.T) {
	s := newSite(t)
	for _, bad := range [][]string{
		{"Pushd-Producer", "p"},
		{"Pushd-Producer-Seq", "0"},
		{"Pushd-Producer", "", "Pushd-Producer-Seq", "0"},
		{"Pushd-Producer", "p", "Pushd-Producer-Seq", "-1"},
		{"Pushd-Producer", "p", "Pushd-Producer-Seq", "+1"},
		{"Pushd-Producer", "p", "Pushd-Producer-Seq", "1", "Pushd-Producer-Epoch", "x"},
		{"Pushd-Producer", "p", "Pushd-Producer-Seq", "0", "Pushd-Ack", "none"},
	} {
		s.do(http.MethodPost, "/v1/topics/a/events", "x", bad...).wantProblem(protocol.BadRequest)
	}
}
