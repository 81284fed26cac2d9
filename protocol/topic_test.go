package protocol

import (
	"strings"
	"testing"
)

func TestTopicNamesFollowTheGrammar(t *testing.T) {
	for _, name := range []string{"a", "orders.eu", "A-z_0:9~@=.x", "$sys.a", strings.Repeat("a", MaxTopicBytes)} {
		if err := CheckTopic(name); err != nil {
			t.Errorf("CheckTopic(%q): got %v, want nil", name, err)
		}
	}
	for _, name := range []string{"", ".", "a.", ".a", "a..b", "a b", "a/b", "ä", "a.*", "**", "a$b", "a.$b", "$", strings.Repeat("a", MaxTopicBytes+1)} {
		if err := CheckTopic(name); CodeOf(err) != BadTopic {
			t.Errorf("CheckTopic(%q): got %v, want code %s", name, err, BadTopic)
		}
	}
}

func TestPatternsMatchWholeSegments(t *testing.T) {
	for _, c := range []struct {
		selector, topic string
		want            bool
	}{
		{"a", "a", true},
		{"a", "b", false},
		{"a", "a.b", false},
		{"*", "a", true},
		{"*", "a.b", false},
		{"a.*", "a.b", true},
		{"a.*", "a", false},
		{"a.*", "a.b.c", false},
		{"a.*.c", "a.b.c", true},
		{"a.*.c", "a.b.d", false},
		{"**", "a", true},
		{"**", "a.b.c", true},
		{"a.**", "a", false},
		{"a.**", "a.b", true},
		{"a.**", "a.b.c", true},
		{"a.**", "ab.c", false},
		{"*.**", "a", false},
		{"*.**", "a.b", true},
		{"**", "$sys.a", false},
		{"*.a", "$sys.a", false},
		{"$sys.*", "$sys.a", true},
	} {
		s, err := ParseSelector(c.selector)
		if err != nil {
			t.Fatalf("ParseSelector(%q): %v", c.selector, err)
		}
		if got := s.Match(c.topic); got != c.want {
			t.Errorf("%q matches %q: got %v, want %v", c.selector, c.topic, got, c.want)
		}
	}
}

func TestPatternsWithMisplacedWildcardsAreRefused(t *testing.T) {
	for _, s := range []string{"**.a", "a.**.b", "a*", "a.b*", "***", "a.***", "$", "$.a"} {
		if _, err := ParseSelector(s); CodeOf(err) != BadTopic {
			t.Errorf("ParseSelector(%q): got %v, want code %s", s, err, BadTopic)
		}
	}
}

func TestSelectorListsDropRepeatsAndAreBounded(t *testing.T) {
	got, err := ParseSelectors([]string{"a", "b.*", "a"})
	if err != nil || len(got) != 2 || got[0].String() != "a" || got[1].String() != "b.*" {
		t.Errorf("ParseSelectors(a, b.*, a): got %v, %v, want [a b.*]", got, err)
	}
	if _, err := ParseSelectors(make([]string, MaxSelectors+1)); CodeOf(err) != TooManyTopics {
		t.Errorf("%d selectors: got %v, want code %s", MaxSelectors+1, err, TooManyTopics)
	}
	if _, err := ParseSelectors(nil); CodeOf(err) != BadTopic {
		t.Errorf("no selectors: got %v, want code %s", err, BadTopic)
	}
}

func FuzzSelector(f *testing.F) {
	for _, s := range []string{"a", "a.*", "**", "$x.y", "a..b", "\xff"} {
		f.Add(s, "a.b")
	}
	f.Fuzz(func(t *testing.T, s, topic string) {
		sel, err := ParseSelector(s)
		if err != nil {
			if CodeOf(err) != BadTopic {
				t.Errorf("ParseSelector(%q): got %v, want code %s", s, err, BadTopic)
			}
			return
		}
		sel.Match(topic)
		if !sel.Pattern() && (CheckTopic(s) != nil || !sel.Match(s)) {
			t.Errorf("%q is a selector without wildcards, but no topic that matches itself", s)
		}
	})
}
