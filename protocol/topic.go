package protocol

import (
	"fmt"
	"strings"
)

// CheckTopic says whether name is a topic: dot-separated segments, each of one
// or more of A–Z a–z 0–9 _ - : ~ @ =, [MaxTopicBytes] in all. A leading "$"
// marks a topic of the system's own. The error is an *[Error] with [BadTopic].
func CheckTopic(name string) error {
	if err := checkSegments(name, false); err != nil {
		return BadTopic.Errorf("topic %s: %v", quote(name), err)
	}
	return nil
}

// SystemTopic says whether the topic is the system's own: clients may read it
// with the right to, but never publish to it.
func SystemTopic(name string) bool { return strings.HasPrefix(name, "$") }

// TopicHash places a topic: its partition is the hash modulo the number of
// partitions. FNV-1a, 64 bits; part of the storage format, so it never changes.
func TopicHash(name string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	// FNV's low bits are weak on short names, and the modulus looks at them.
	h ^= h >> 32
	return h
}

// A Selector names what a reader follows: one topic, or a pattern in which
// "*" stands for exactly one segment and a last "**" for one or more.
// The zero value matches nothing.
type Selector struct {
	text    string
	pattern bool
}

// ParseSelector reads a topic or pattern. The error is an *[Error] with
// [BadTopic].
func ParseSelector(s string) (Selector, error) {
	if err := checkSegments(s, true); err != nil {
		return Selector{}, BadTopic.Errorf("topic or pattern %s: %v", quote(s), err)
	}
	return Selector{text: s, pattern: strings.Contains(s, "*")}, nil
}

// ParseSelectors reads a reader's list, dropping repeats and keeping the order
// of first mention. It refuses an empty list and more than [MaxSelectors].
func ParseSelectors(list []string) ([]Selector, error) {
	if len(list) == 0 {
		return nil, BadTopic.Errorf("no topic named; give at least one topic=…")
	}
	if len(list) > MaxSelectors {
		return nil, TooManyTopics.Errorf("%d topics named, at most %d per reader; use a pattern such as orders.**", len(list), MaxSelectors)
	}
	if len(list) == 1 { // as most are: without a map
		sel, err := ParseSelector(list[0])
		if err != nil {
			return nil, err
		}
		return []Selector{sel}, nil
	}
	out := make([]Selector, 0, len(list))
	seen := make(map[string]bool, len(list))
	for _, s := range list {
		sel, err := ParseSelector(s)
		if err != nil {
			return nil, err
		}
		if !seen[s] {
			seen[s] = true
			out = append(out, sel)
		}
	}
	return out, nil
}

// String is the selector as it was written.
func (s Selector) String() string { return s.text }

// Pattern says whether the selector may match more than one topic.
func (s Selector) Pattern() bool { return s.pattern }

// Match says whether the selector covers topic. A pattern that begins with a
// wildcard does not reach into the system's topics, so that "**" is everything
// that clients publish.
func (s Selector) Match(topic string) bool {
	if !s.pattern {
		return s.text == topic && topic != ""
	}
	if SystemTopic(topic) && !SystemTopic(s.text) {
		return false
	}
	return matchSegments(s.text, topic)
}

// Fingerprint is a 48-bit hash of the selector's text: how a cursor remembers
// which selectors it was issued for.
func (s Selector) Fingerprint() uint64 { return TopicFingerprint(s.text) }

// TopicFingerprint is that of the selector of one topic.
func TopicFingerprint(topic string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(topic) {
		h = (h ^ uint64(topic[i])) * 1099511628211
	}
	return (h ^ h>>48) & fingerprintMask
}

func matchSegments(pattern, topic string) bool {
	for {
		p, prest, pmore := strings.Cut(pattern, ".")
		if p == "**" {
			return topic != ""
		}
		t, trest, tmore := strings.Cut(topic, ".")
		if p != "*" && p != t {
			return false
		}
		if !pmore || !tmore {
			return pmore == tmore
		}
		pattern, topic = prest, trest
	}
}

func checkSegments(s string, wildcards bool) error {
	switch {
	case s == "":
		return fmt.Errorf("is empty; name it like orders.eu")
	case len(s) > MaxTopicBytes:
		return fmt.Errorf("has %d bytes, at most %d are allowed", len(s), MaxTopicBytes)
	}
	rest, more := strings.TrimPrefix(s, "$"), true
	for more {
		var seg string
		seg, rest, more = strings.Cut(rest, ".")
		if err := checkSegment(seg, !more, wildcards); err != nil {
			return err
		}
	}
	return nil
}

func checkSegment(seg string, last, wildcards bool) error {
	switch {
	case seg == "":
		return fmt.Errorf("has an empty segment; dots stand between segments only")
	case wildcards && seg == "*":
		return nil
	case wildcards && seg == "**" && last:
		return nil
	case wildcards && seg == "**":
		return fmt.Errorf("has ** before its end; ** may only be the last segment")
	}
	for i := range len(seg) {
		if !topicByte[seg[i]] {
			return fmt.Errorf("segment %s: byte %q is not allowed; use A-Z a-z 0-9 _ - : ~ @ =", quote(seg), seg[i])
		}
	}
	return nil
}

// topicByte is indexed by byte value; a table, since every event's topic is
// checked where it enters.
var topicByte = func() (t [256]bool) {
	for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-:~@=" {
		t[c] = true
	}
	return t
}()

// quote shows untrusted text in an error: escaped, and cut to a length that
// cannot flood a log.
func quote(s string) string {
	const most = 64
	if len(s) > most {
		return fmt.Sprintf("%.*q…", most, s[:most])
	}
	return fmt.Sprintf("%q", s)
}
