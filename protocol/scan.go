package protocol

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// scanner reads JSON of a form that is known, and gives up on any other: what
// it takes, encoding/json takes and reads alike, which FuzzParsePublish and
// FuzzParsePublished hold it to. encoding/json then reads the rest, and says what
// is wrong with it. It exists because that takes most of a publish's time.
type scanner struct {
	rest []byte
	bad  bool
}

// maxDepth bounds the nesting of a value that a scanner takes.
const maxDepth = 64

// end says whether everything was taken.
func (s *scanner) end() bool {
	s.space()
	return !s.bad && len(s.rest) == 0
}

func (s *scanner) fail() { s.bad, s.rest = true, nil }

func (s *scanner) space() {
	for len(s.rest) > 0 && s.rest[0] <= ' ' && (s.rest[0] == ' ' || s.rest[0] == '\t' || s.rest[0] == '\n' || s.rest[0] == '\r') {
		s.rest = s.rest[1:]
	}
}

// next takes c, if it comes next.
func (s *scanner) next(c byte) bool {
	s.space()
	if len(s.rest) == 0 || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

func (s *scanner) want(c byte) {
	if !s.next(c) {
		s.fail()
	}
}

// object calls field with each name; field takes the value. The names are
// those that need no escapes.
func (s *scanner) object(field func(name []byte)) {
	s.want('{')
	if s.next('}') {
		return
	}
	for !s.bad {
		name, plain := s.inside()
		s.want(':')
		if !plain {
			s.fail()
		}
		if !s.bad {
			field(name)
		}
		if s.next('}') {
			return
		}
		s.want(',')
	}
}

// inside takes a string and gives what stands between its quotes. plain: there
// are no escapes in it.
func (s *scanner) inside() (raw []byte, plain bool) {
	s.want('"')
	plain = true
	ascii := true
	for i := plainBytes(s.rest); i < len(s.rest); {
		switch c := s.rest[i]; {
		case c == '"':
			raw, s.rest = s.rest[:i], s.rest[i+1:]
			if !ascii && !utf8.Valid(raw) {
				s.fail() // encoding/json repairs it
			}
			return raw, plain
		case c == '\\':
			plain = false
			i += 2
		case c < ' ':
			i = len(s.rest)
		case c >= 0x7f:
			ascii = false
			i++
		default:
			i += plainBytes(s.rest[i:])
		}
	}
	s.fail()
	return nil, false
}

// plainBytes is how many leading bytes of b stand for themselves in a JSON
// string on any wire of ours, eight at a time: printable ASCII but " and \.
func plainBytes[T string | []byte](b T) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(b); i += 8 {
		w := uint64(b[i]) | uint64(b[i+1])<<8 | uint64(b[i+2])<<16 | uint64(b[i+3])<<24 |
			uint64(b[i+4])<<32 | uint64(b[i+5])<<40 | uint64(b[i+6])<<48 | uint64(b[i+7])<<56
		quote, escape := w^('"'*ones), w^('\\'*ones)
		// A byte below n borrows into its high bit; a borrow that goes further only makes the slow loop look.
		if (w|(w-' '*ones)|(w+ones)|(quote-ones)&^quote|(escape-ones)&^escape)&highs != 0 {
			break
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			break
		}
	}
	return i
}

// text takes a string.
func (s *scanner) text() []byte {
	raw, plain := s.inside()
	if plain || s.bad {
		return raw
	}
	dst := make([]byte, 0, len(raw))
	for len(raw) > 0 {
		i := bytes.IndexByte(raw, '\\')
		if i < 0 {
			break
		}
		c := escaped[raw[i+1]]
		if c == 0 {
			s.fail() // \u, or none at all
			return nil
		}
		dst, raw = append(append(dst, raw[:i]...), c), raw[i+2:]
	}
	return append(dst, raw...)
}

// escaped is what a character behind a backslash stands for; 0: not for one.
var escaped = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// number takes an unsigned integer.
func (s *scanner) number() (n uint64) {
	s.space()
	i := 0
	for ; i < len(s.rest) && s.rest[i]-'0' <= 9; i++ {
		n = 10*n + uint64(s.rest[i]-'0')
	}
	if i == 0 || i > 19 || i > 1 && s.rest[0] == '0' { // 19 digits never overflow
		s.fail()
		return 0
	}
	s.rest = s.rest[i:]
	return n
}

// boolean takes true or false.
func (s *scanner) boolean() bool {
	s.space()
	if len(s.rest) > 0 && s.rest[0] == 't' {
		s.word("true")
		return true
	}
	s.word("false")
	return false
}

func (s *scanner) word(w string) {
	if len(s.rest) < len(w) || string(s.rest[:len(w)]) != w {
		s.fail()
		return
	}
	s.rest = s.rest[len(w):]
}

// value takes any value and gives it as it stands.
func (s *scanner) value() []byte {
	s.space()
	before := s.rest
	s.skip(0)
	return before[:len(before)-len(s.rest)]
}

// skip takes a value.
func (s *scanner) skip(depth int) {
	s.space()
	if len(s.rest) == 0 || depth > maxDepth {
		s.fail()
		return
	}
	switch s.rest[0] {
	case '{', '[':
		s.skipMany(depth)
	case '"':
		if raw, plain := s.inside(); !plain && !validEscapes(raw) {
			s.fail()
		}
	case 't', 'f':
		s.boolean()
	case 'n':
		s.word("null")
	default:
		s.skipNumber()
	}
}

// skipMany takes an object or an array.
func (s *scanner) skipMany(depth int) {
	named, last := s.rest[0] == '{', s.rest[0]+2 // "]" and "}" stand two behind "[" and "{"
	s.rest = s.rest[1:]
	if s.next(last) {
		return
	}
	for !s.bad {
		if named {
			if raw, plain := s.inside(); !plain && !validEscapes(raw) {
				s.fail()
			}
			s.want(':')
		}
		s.skip(depth + 1)
		if s.next(last) {
			return
		}
		s.want(',')
	}
}

func validEscapes(raw []byte) bool {
	for i := bytes.IndexByte(raw, '\\'); i >= 0; i = bytes.IndexByte(raw, '\\') {
		raw = raw[i+1:]
		n := 1
		if raw[0] == 'u' {
			n = 5
		} else if escaped[raw[0]] == 0 {
			return false
		}
		if len(raw) < n || len(bytes.Trim(raw[1:n], "0123456789abcdefABCDEF")) > 0 {
			return false
		}
		raw = raw[n:]
	}
	return true
}

// skipNumber takes a number (RFC 8259 §6).
func (s *scanner) skipNumber() {
	if s.rest[0] == '-' {
		s.rest = s.rest[1:]
	}
	zero := len(s.rest) > 0 && s.rest[0] == '0'
	if n := s.digits(); n == 0 || zero && n > 1 {
		s.fail()
	}
	if len(s.rest) > 0 && s.rest[0] == '.' {
		s.rest = s.rest[1:]
		if s.digits() == 0 {
			s.fail()
		}
	}
	if len(s.rest) > 0 && s.rest[0]|0x20 == 'e' {
		s.rest = s.rest[1:]
		if len(s.rest) > 0 && (s.rest[0] == '+' || s.rest[0] == '-') {
			s.rest = s.rest[1:]
		}
		if s.digits() == 0 {
			s.fail()
		}
	}
}

func (s *scanner) digits() (n int) {
	for n < len(s.rest) && s.rest[n]-'0' <= 9 {
		n++
	}
	s.rest = s.rest[n:]
	return n
}

// validJSON is json.Valid, sooner.
func validJSON(b []byte) bool {
	s := scanner{rest: b}
	s.skip(0)
	return s.end() || json.Valid(b)
}
