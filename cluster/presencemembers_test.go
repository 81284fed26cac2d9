package cluster

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pushd/pushd/protocol"
)

// membersPlay is a node with members of a topic, and another that follows them,
// by questions that may find no answer.
type membersPlay struct {
	*rapid.T
	owner    roster
	version  uint64 // the owner's newest
	seats    []*localMember
	reader   *audience
	now      time.Time
	view     map[string]string // what a watcher at the reader was told
	question *membersPull
	answer   *membersPage // nil: it is not made yet
}

func newMembersPlay(t *rapid.T) *membersPlay {
	p := &membersPlay{T: t, owner: roster{}, now: time.Unix(1000, 0), view: map[string]string{}}
	p.restart(nil)
	return p
}

// restart makes the reader one that has just started.
func (p *membersPlay) restart(*rapid.T) {
	p.reader = newAudience("room", 1, p.now)
	p.reader.watch(&watcher{}, p.now, noNames)
	p.question, p.answer = nil, nil
	clear(p.view)
}

func noNames(uint64) string { return "n" }

func (p *membersPlay) changed(m *localMember) {
	p.version++
	m.touched(p.version)
	p.now = p.now.Add(time.Millisecond)
}

func (p *membersPlay) join(t *rapid.T) {
	p.seat(fmt.Sprint("m", rapid.IntRange(0, 9).Draw(t, "member")), rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, "info"))
}

func (p *membersPlay) seat(id, info string) {
	var said []byte
	if info != "" {
		said = []byte(info)
	}
	m, news := p.owner.connect("room", p.version, id, said, p.now)
	if p.seats = append(p.seats, m); news {
		p.changed(m)
	}
}

func (p *membersPlay) leave(t *rapid.T) {
	if len(p.seats) > 0 {
		p.unseat(rapid.IntRange(0, len(p.seats)-1).Draw(t, "seat"))
	}
}

func (p *membersPlay) unseat(at int) {
	m := p.seats[at]
	p.seats = append(p.seats[:at:at], p.seats[at+1:]...)
	p.owner.disconnect(m)
	p.changed(m)
}

// passBy is more members who come and go than the owner remembers.
func (p *membersPlay) passBy(*rapid.T) {
	for i := range minLeft + 6 {
		p.seat(fmt.Sprint("p", i), "")
		p.unseat(len(p.seats) - 1)
	}
}

// ask begins a question, gets its answer made, or takes it in, unless it is lost.
func (p *membersPlay) ask(t *rapid.T) {
	switch {
	case p.question == nil:
		q := p.reader.pull(1)
		p.question = &q
	case p.answer == nil:
		page := p.owner.page(*p.question, p.version, rapid.IntRange(0, 300).Draw(t, "bytes"))
		p.answer = &page
	default:
		if !rapid.Bool().Draw(t, "lost") {
			p.reader.take(1, p.answer, noNames)
			p.tell()
		}
		p.question, p.answer = nil, nil
	}
}

// tell lets the watcher know.
func (p *membersPlay) tell() {
	p.reader.close(noNames)
	for _, b := range p.reader.closed {
		for _, m := range append(b.change.Joined, b.change.Updated...) {
			p.view[m.ID] = string(m.Info)
		}
		for _, m := range b.change.Left {
			delete(p.view, m.ID)
		}
	}
	p.reader.closed = nil
}

// settle asks until the reader has what the owner's gossip says that there is,
// or drops all if that is nobody.
func (p *membersPlay) settle() {
	want := map[string]string{}
	if t := p.owner["room"]; t != nil {
		for _, m := range t.members {
			want[m.presence.id] = string(m.presence.info)
		}
	}
	for n := 0; len(want) > 0; n++ {
		if v := p.reader.sources[1]; v != nil && v.have >= p.version && v.started == 0 {
			break
		}
		if n > 1000 {
			p.Fatalf("the reader still lacks something after %d questions", n)
		}
		page := p.owner.page(p.reader.pull(1), p.version, 200)
		p.reader.take(1, &page, noNames)
	}
	if len(want) == 0 {
		p.reader.forget(1, noNames)
	}
	p.tell()
	got := newMirror("room", p.reader.list("", protocol.MaxPageMembers, noNames)).ids
	if !maps.Equal(got, want) {
		p.Errorf("the reader has %v, want %v", got, want)
	}
	if !maps.Equal(p.view, want) {
		p.Errorf("the watcher was told of %v, want %v", p.view, want)
	}
}

func TestWhateverIsLostAFollowerHasTheOwnersMembersInTheEnd(t *testing.T) {
	rapidly(t, 10, func(t *rapid.T) {
		p := newMembersPlay(t)
		t.Repeat(map[string]func(*rapid.T){
			"join": p.join, "leave": p.leave, "pass by": p.passBy, "restart": p.restart,
			"ask": p.ask, "ask again": p.ask, "ask once more": p.ask, "and more": p.ask,
		})
		p.settle()
	})
}

// rapidly checks a property so many times as often as usual: single plays are
// cheap, and some faults need several things to meet.
func rapidly(t *testing.T, times int, prop func(*rapid.T)) {
	for range times {
		rapid.Check(t, prop)
	}
}
