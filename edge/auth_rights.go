package edge

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/pushd/pushd/protocol"
)

// rights are what one may do with topics.
type rights uint8

const (
	maySub   rights = 1 << iota // read what is new
	mayPub                      // publish
	mayHist                     // read what was before
	mayPres                     // see who is there, and be there
	mayAdmin                    // operate the server; of a system topic
)

// rightNames are the words of a token's cap.
var rightNames = map[string]rights{
	"sub": maySub, "pub": mayPub, "hist": mayHist, "pres": mayPres, "admin": mayAdmin,
	"*": maySub | mayPub | mayHist | mayPres | mayAdmin,
}

// everySystem is the pattern of all of the system's topics, in a cap only.
const everySystem = "$**"

// grant is rights to all topics of a pattern.
type grant struct {
	pattern protocol.Selector
	rights  rights
}

// principal is who is behind a token or an API key. It is shared by all
// connections that came with the same one; nobody changes it.
type principal struct {
	subject string
	info    json.RawMessage // what members of this name say of themselves; nil: the token leaves it to them
	grants  []grant
	expires time.Time // zero: never
	key     *authKey  // what it depends on
}

// parseGrants reads a cap: patterns and what may be done with their topics.
func parseGrants(caps map[string][]string) ([]grant, error) {
	if len(caps) > maxGrants {
		return nil, protocol.BadToken.Errorf("cap has %d patterns, at most %d are allowed; use patterns such as orders.**", len(caps), maxGrants)
	}
	list := make([]grant, 0, len(caps))
	for text, names := range caps {
		pattern, err := protocol.ParseSelector(text)
		if err != nil {
			return nil, protocol.BadToken.Errorf("cap: %s", asError(err).Detail)
		}
		g := grant{pattern: pattern}
		for _, name := range names {
			r := rightNames[name]
			if r == 0 {
				return nil, protocol.BadToken.Errorf("cap: %s is no right; there are sub, pub, hist, pres and admin, and * for all", clip(name))
			}
			g.rights |= r
		}
		list = append(list, g)
	}
	return list, nil
}

// of is what the principal may do with all topics of a selector. Nobody at all,
// which is who asks where there is no authentication, may do everything.
func (p *principal) of(s protocol.Selector) (all rights) {
	if p == nil {
		return rightNames["*"]
	}
	for i := range p.grants {
		if g := &p.grants[i]; g.pattern.Covers(s) || g.everySystem(s.String()) {
			all |= g.rights
		}
	}
	return all
}

// may says whether the principal has a right to a topic. It is asked for each
// publish, and allocates nothing.
func (p *principal) may(want rights, topic string) bool {
	if p == nil {
		return true
	}
	for i := range p.grants {
		if g := &p.grants[i]; g.rights&want != 0 && (g.pattern.Match(topic) || g.everySystem(topic)) {
			return true
		}
	}
	return false
}

func (g *grant) everySystem(topic string) bool {
	return g.pattern.String() == everySystem && protocol.SystemTopic(topic)
}

// need refuses who lacks a right to a topic.
func (p *principal) need(want rights, topic string) error {
	if p.may(want, topic) {
		return nil
	}
	return lacking(want, topic)
}

// lacking names what is missing, as it would stand in a cap.
func lacking(want rights, topic string) *protocol.Error {
	if want == mayPub && protocol.SystemTopic(topic) {
		return protocol.Forbidden.Errorf("topic %s belongs to the system; nobody publishes to it", clip(topic))
	}
	var name string
	for n, r := range rightNames {
		if r == want {
			name = n
		}
	}
	return protocol.Forbidden.Errorf("the right %s to %s is missing; the token's or key's cap would need something like {%q:[%q]}", name, clip(topic), clipBare(topic), name)
}

// clipBare is clip without quotes.
func clipBare(s string) string { return strings.Trim(clip(s), `"`) }

// permit says whether the principal may read what is asked for. What is new
// takes sub, what was before takes hist; a cursor that was issued for a topic
// goes on with what is new to its reader, and for all others it begins at the
// earliest event. live readers stay, those of a short poll have all they get
// from before.
func (p *principal) permit(q *query, unset protocol.StartKind, live bool) error {
	if p == nil {
		return nil
	}
	covered := q.goesOn(unset)
	for i, s := range q.selectors {
		has := p.of(s)
		past := !covered[i]
		switch {
		case has&maySub == 0 && (live || has&mayHist == 0):
			return lacking(maySub, s.String())
		case past && has&mayHist == 0:
			e := lacking(mayHist, s.String())
			e.Detail += "; without it, begin at after=latest, or at a cursor of this reader's own"
			return e
		case q.attendee != nil && has&mayPres == 0:
			return lacking(mayPres, s.String())
		}
	}
	return p.attend(q.attendee)
}

// attend makes the token say who is present.
func (p *principal) attend(a *attendee) error {
	if a == nil {
		return nil
	}
	if p.subject == "" && !a.watch {
		return protocol.Forbidden.Errorf("the token has no sub, so nobody can be present by it; watch without being there (presence=watch), or use a token with a sub")
	}
	a.member = p.subject
	if p.info != nil {
		a.info = p.info
	}
	if a.watch {
		return nil
	}
	return protocol.CheckMember(a.member)
}

// goesOn says for each selector whether its reader gets nothing from before.
func (q *query) goesOn(unset protocol.StartKind) []bool {
	kind := q.start.Kind
	if kind == protocol.StartUnset {
		kind = unset
	}
	if kind == protocol.StartCursor {
		if covered, ok := protocol.CursorCovers(q.start.Cursor, q.selectors); ok {
			return covered
		}
	}
	// A cursor that is none is refused by the broker, which has the words for it.
	nothing := kind == protocol.StartLatest || kind == protocol.StartCursor || kind == protocol.StartLast && q.start.N == 0
	return slices.Repeat([]bool{nothing}, len(q.selectors))
}

// left is what remains of the token's time.
func (p *principal) left(now time.Time) protocol.TokenTime {
	return protocol.TokenTime{ExpiresInMS: max(0, p.expires.Sub(now).Milliseconds())}
}
