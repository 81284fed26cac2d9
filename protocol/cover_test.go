package protocol

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// everyTopic is all topics of up to four segments over a small alphabet, with
// one segment that patterns never name, as there always is another one.
func everyTopic() (list []string) {
	level := []string{""}
	for range 4 {
		var next []string
		for _, prefix := range level {
			for _, segment := range []string{"a", "b", "other"} {
				next = append(next, strings.TrimPrefix(prefix+"."+segment, "."))
			}
		}
		level = next
		list = append(list, next...)
	}
	for _, topic := range list {
		list = append(list, "$"+topic)
	}
	return list
}

func TestAPatternCoversAnotherIfItMatchesAllOfItsTopics(t *testing.T) {
	topics := everyTopic()
	pattern := rapid.Custom(func(t *rapid.T) Selector {
		segments := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "*"}), 0, 3).Draw(t, "segments")
		if len(segments) == 0 || rapid.Bool().Draw(t, "deep") {
			segments = append(segments, "**")
		}
		text := strings.Join(segments, ".")
		if segments[0] != "*" && segments[0] != "**" && rapid.Bool().Draw(t, "system") {
			text = "$" + text
		}
		s, err := ParseSelector(text)
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
	rapid.Check(t, func(t *rapid.T) {
		wide, narrow := pattern.Draw(t, "wide"), pattern.Draw(t, "narrow")
		want := true
		for _, topic := range topics {
			if narrow.Match(topic) && !wide.Match(topic) {
				want = false
				break
			}
		}
		if got := wide.Covers(narrow); got != want {
			t.Fatalf("%s covers %s: got %v, want %v", wide, narrow, got, want)
		}
	})
}

func TestATopicCoversItselfOnly(t *testing.T) {
	for _, c := range []struct {
		wide, narrow string
		want         bool
	}{
		{"a.b", "a.b", true},
		{"a.b", "a.*", false},
		{"a.*", "a.b", true},
		{"**", "$a", false},
		{"**", "$a.**", false},
		{"$a.**", "$a.b", true},
	} {
		wide, _ := ParseSelector(c.wide)
		narrow, _ := ParseSelector(c.narrow)
		if got := wide.Covers(narrow); got != c.want {
			t.Errorf("%s covers %s: got %v, want %v", c.wide, c.narrow, got, c.want)
		}
	}
}
