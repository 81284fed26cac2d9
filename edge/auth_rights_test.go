package edge

import (
	"testing"

	"github.com/pushd/pushd/protocol"
)

func TestNobodyMayDoEverything(t *testing.T) {
	var nobody *principal // who asks where there is no authentication
	s, _ := protocol.ParseSelector("a.**")
	if !nobody.may(mayAdmin, "$cluster") || nobody.of(s) != rightNames["*"] || nobody.need(mayPub, "a") != nil || nobody.gone() != nil || nobody.within(7) != 7 {
		t.Error("without authentication: got a refusal, want none")
	}
}

func TestSystemTopicsNeedAPatternOfTheirOwn(t *testing.T) {
	for _, c := range []struct {
		pattern, topic string
		want           bool
	}{
		{"**", "$cluster", false},
		{"*", "$cluster", false},
		{"$**", "$cluster", true},
		{"$**", "$presence.a.b", true},
		{"$**", "a", false},
		{"$presence.*", "$presence.a", true},
		{"$presence.*", "$presence.a.b", false},
	} {
		grants, err := parseGrants(map[string][]string{c.pattern: {"admin", "sub"}})
		if err != nil {
			t.Fatal(err)
		}
		p := &principal{grants: grants}
		s, _ := protocol.ParseSelector(c.topic)
		if got, of := p.may(mayAdmin, c.topic), p.of(s)&maySub != 0; got != c.want || of != c.want {
			t.Errorf("%s, for %s: got %v and %v, want %v", c.pattern, c.topic, got, of, c.want)
		}
	}
}

// manyGrants is somebody with as many patterns as there may be, of which the last
// one counts.
func manyGrants(t testing.TB) *principal {
	p := &principal{}
	for i := range maxGrants {
		pattern, err := protocol.ParseSelector("orders.region" + string(rune('a'+i%26)) + ".*")
		if err != nil {
			t.Fatal(err)
		}
		p.grants = append(p.grants, grant{pattern, maySub})
	}
	last, _ := protocol.ParseSelector("orders.last.**")
	p.grants[maxGrants-1] = grant{last, mayPub}
	return p
}

func TestAskingForARightAllocatesNothing(t *testing.T) {
	p := manyGrants(t)
	if n := testing.AllocsPerRun(100, func() {
		if !p.may(mayPub, "orders.last.a.b") || p.may(mayPub, "orders.regiona.b") {
			t.Error("got the wrong answer")
		}
	}); n != 0 {
		t.Errorf("may: got %v allocations, want 0", n)
	}
}

func BenchmarkMay(b *testing.B) {
	p := manyGrants(b)
	b.ReportAllocs()
	for b.Loop() {
		p.may(mayPub, "orders.last.a.b")
	}
}

func BenchmarkKnownToken(b *testing.B) {
	a := openTestAuth(b, AuthOptions{}, testSecret, "")
	text := token(b, ann(mayAll))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.known(text); err != nil {
			b.Fatal(err)
		}
	}
}
