package protocol

import "strings"

// Covers says whether every topic that t matches is one that s matches, too: who
// may read s may read t. It is about one pattern at a time; that several cover
// another one together is not found out.
func (s Selector) Covers(t Selector) bool {
	switch {
	case !t.pattern:
		return s.Match(t.text)
	case !s.pattern:
		return false
	case SystemTopic(t.text) && !SystemTopic(s.text):
		return false // wildcards do not reach into the system's topics
	}
	return coverSegments(s.text, t.text)
}

func coverSegments(wide, narrow string) bool {
	for {
		w, wrest, wmore := strings.Cut(wide, ".")
		if w == "**" {
			return true // which has at least one segment left, too
		}
		n, nrest, nmore := strings.Cut(narrow, ".")
		if n == "**" || w != "*" && w != n {
			return false
		}
		if !wmore || !nmore {
			return wmore == nmore
		}
		wide, narrow = wrest, nrest
	}
}
