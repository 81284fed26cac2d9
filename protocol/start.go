package protocol

import (
	"strconv"
	"strings"
	"time"
)

// StartKind tells the ways of saying where a reader begins.
type StartKind uint8

// The kinds of start position.
const (
	StartUnset    StartKind = iota // the transport's default: earliest for polls, latest for streams
	StartEarliest                  // the oldest retained event
	StartLatest                    // only what comes from now on
	StartLast                      // the last N events of each topic
	StartTime                      // the first event at or after a time
	StartCursor                    // behind a cursor
)

// A Start is where a reader begins: what API.md calls after=.
type Start struct {
	Kind   StartKind
	Cursor string    // StartCursor: its text, not yet decoded
	N      int       // StartLast: events per topic
	Time   time.Time // StartTime
}

// ParseStart reads a start position: a cursor, "earliest", "latest", "-N",
// "@RFC3339", "@unixseconds" or "@10m" (that long before now). An empty string
// is [StartUnset]. Errors carry [BadCursor].
func ParseStart(s string, now time.Time) (Start, error) {
	switch {
	case s == "":
		return Start{}, nil
	case s == "earliest":
		return Start{Kind: StartEarliest}, nil
	case s == "latest":
		return Start{Kind: StartLatest}, nil
	case isLastN(s):
		n, err := strconv.Atoi(s[1:])
		if err != nil || n > MaxLastEvents {
			return Start{}, BadCursor.Errorf("after=%s: the number behind - must be 0 to %d", quote(s), MaxLastEvents)
		}
		return Start{Kind: StartLast, N: n}, nil
	case s[0] == '@':
		t, ok := parseWhen(s[1:], now)
		if !ok {
			return Start{}, BadCursor.Errorf("after=%s: behind @ stands a time (2006-01-02T15:04:05Z), seconds since 1970, or a duration ago (10m)", quote(s))
		}
		return Start{Kind: StartTime, Time: t}, nil
	}
	return Start{Kind: StartCursor, Cursor: s}, nil
}

// isLastN keeps "-5" apart from a cursor, whose alphabet has "-" too: no
// cursor is so short or all digits behind a dash.
func isLastN(s string) bool {
	return len(s) > 1 && len(s) < 12 && s[0] == '-' && strings.Trim(s[1:], "0123456789") == ""
}

func parseWhen(s string, now time.Time) (time.Time, bool) {
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, true
	}
	if sec, err := strconv.ParseFloat(s, 64); err == nil {
		if !(sec >= 0 && sec < 1<<33) {
			return time.Time{}, false
		}
		return time.Unix(0, int64(sec*1e9)), true
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), true
	}
	return time.Time{}, false
}
