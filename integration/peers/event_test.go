package peers

import (
	"bytes"
	"fmt"
	"strconv"
)

// An event of the comparison is a JSON string of 128 bytes, so that every peer
// takes it as it is. It says which topic's it is, its number there, from 1, and
// when it was published, in places that a reader finds without parsing.
const (
	eventBytes  = 128
	recordBytes = len("!#") + 5 + len(",") + 10 + len(",") + 19
)

// keptTopic is the one that is read again from a place; the others need no
// history.
const keptTopic = 99_999

// mark begins what an event says, and stands nowhere else.
var mark = []byte("!#")

// appendEvent appends an event.
func appendEvent(dst []byte, topic int, number uint64, at int64) []byte {
	start := len(dst)
	dst = fmt.Appendf(dst, `"%s%05d,%010d,%019d,`, mark, topic, number, at)
	dst = append(dst, padding[:eventBytes-1-(len(dst)-start)]...)
	return append(dst, '"')
}

var padding = bytes.Repeat([]byte("x"), eventBytes)

// record is what an event says.
type record struct {
	topic  int
	number uint64
	at     int64
}

// nextRecord finds the first record of b. rest is what is behind it, or what
// could be the beginning of one.
func nextRecord(b []byte) (r record, rest []byte, ok bool) {
	i := bytes.Index(b, mark)
	switch {
	case i < 0 && len(b) > 0 && b[len(b)-1] == mark[0]:
		return r, b[len(b)-1:], false
	case i < 0:
		return r, nil, false
	case len(b)-i < recordBytes:
		return r, b[i:], false
	}
	b = b[i+len(mark):]
	r = record{topic: int(digits(b[:5])), number: digits(b[6:16]), at: int64(digits(b[17:36]))}
	return r, b[36:], true
}

func digits(b []byte) (n uint64) {
	for _, c := range b {
		n = n*10 + uint64(c-'0')
	}
	return n
}

// topicName is how the peers call a topic.
func topicName(topic int) string { return "bench." + strconv.Itoa(topic) }
