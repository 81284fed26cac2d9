package node

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
)

var recordBegan = time.Unix(1_700_000_000, 0)

// memberSince is a member that joined so long after the test's time began.
func memberSince(id string, after time.Duration) protocol.Member {
	return protocol.Member{ID: id, Connections: 1, Since: recordBegan.Add(after), Nodes: []string{"n1"}}
}

// emptyRecord is one that was loaded and had nothing.
func emptyRecord() *record {
	r := newRecord(nil, "room")
	r.members, r.gone = map[string]protocol.Member{}, map[string]struct{}{}
	return r
}

// stores takes in what the record lacks, and says what that is.
func (r *record) stores(t *testing.T, listed, all bool, there ...protocol.Member) string {
	t.Helper()
	var out []string
	for _, p := range r.lacking(there, listed, all) {
		if *p.IfMatch != r.last {
			t.Errorf("%s: got an event behind offset %d, want behind %d", p.Event.Type, *p.IfMatch, r.last)
		}
		p.Event.Offset = r.last + 1
		r.take(&p.Event)
		_, id, _ := strings.Cut(string(p.Event.Data), `"id":"`)
		id, _, _ = strings.Cut(id, `"`)
		out = append(out, strings.TrimSuffix(p.Event.Type+":"+id, ":"))
	}
	return strings.Join(out, " ")
}

func TestTheRecordGetsWhatItLacksAndNothingTwice(t *testing.T) {
	r := emptyRecord()
	ann, bob := memberSince("ann", 0), memberSince("bob", time.Second)
	const nothing, listed, all = 0, 1, 2 // that is known
	for _, step := range []struct {
		there []protocol.Member
		known int
		want  string
	}{
		{nil, all, ""},
		{[]protocol.Member{ann}, all, "occupied joined:ann"},
		{[]protocol.Member{ann}, all, ""},
		{[]protocol.Member{bob}, nothing, "joined:bob"}, // ann may only be unknown yet
		{[]protocol.Member{bob}, listed, "left:ann"},
		{nil, nothing, ""},
		{nil, listed, "left:bob"},
		{nil, listed, ""}, // somebody may be on the way
		{nil, all, "vacated"},
		{[]protocol.Member{ann}, all, "occupied joined:ann"},
	} {
		if got := r.stores(t, step.known >= listed, step.known == all, step.there...); got != step.want {
			t.Errorf("%v there: got %q, want %q", step.there, got, step.want)
		}
	}
}

func TestAMemberThatANewLeaderHasNotSeenHasNotLeftYet(t *testing.T) {
	r := emptyRecord()
	r.take(&protocol.Event{Type: recordOccupied, Offset: 1, Data: []byte(`{}`)})
	r.take(&protocol.Event{Type: recordJoined, Offset: 2, Data: []byte(`{"member":{"id":"ann"}}`)})
	if got := r.stores(t, true, false); got != "" {
		t.Errorf("got %q, want nothing: ann may be moving", got)
	}
	if got, want := r.stores(t, true, true), "left:ann vacated"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestALongRecordIsStoredInParts(t *testing.T) {
	r := emptyRecord()
	var there []protocol.Member
	for i := range protocol.MaxBatchEvents + 500 {
		there = append(there, memberSince(fmt.Sprint("m", i), 0))
	}
	total := 0
	for {
		got := r.stores(t, true, true, there...)
		if got == "" {
			break
		}
		n := len(strings.Fields(got))
		if total += n; n > protocol.MaxBatchEvents {
			t.Fatalf("got %d events at once, want at most %d", n, protocol.MaxBatchEvents)
		}
	}
	if total != len(there)+1 || len(r.members) != len(there) {
		t.Errorf("got %d events for %d members, want one each and occupied", total, len(there))
	}
}

func TestAJoinThatIsNotRetainedIsNotRecordedAgain(t *testing.T) {
	r := emptyRecord()
	r.expired = recordBegan.Add(time.Hour)
	r.last = 41
	old, back, fresh := memberSince("old", 0), memberSince("back", 0), memberSince("fresh", 2*time.Hour)
	r.take(&protocol.Event{Type: recordLeft, Offset: 42, Data: []byte(`{"member":{"id":"back"}}`)})
	there := []protocol.Member{old, back, fresh}
	r.recall(there)
	if got, want := r.stores(t, true, true, there...), "joined:back joined:fresh"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := r.stores(t, true, true), "vacated"; !strings.HasSuffix(got, want) || strings.Count(got, "left:") != 3 {
		t.Errorf("got %q, want three leaves and %s", got, want)
	}
}
