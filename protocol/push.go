package protocol

import (
	"net/http"
	"strconv"
	"strings"
)

// The WebSocket's server side of the line: see [Push] for how it is decoded.
// An id of nil is left out, as is a sub of nil.

// AppendEventPush writes an event for a reader. envelope lacks its end: see
// [AppendEnvelope].
func AppendEventPush(dst []byte, sub *uint64, envelope []byte, cursor string) []byte {
	dst = appendNumber(append(dst, '{'), "sub", sub)
	dst = append(dst, `"event":`...)
	dst = append(dst, envelope...)
	dst = AppendCursorField(dst, cursor)
	return append(dst, '}')
}

// AppendGapPush writes a gap for a reader.
func AppendGapPush(dst []byte, sub *uint64, g *Gap) []byte {
	dst = appendNumber(append(dst, '{'), "sub", sub)
	dst = append(dst, `"gap":`...)
	dst = AppendGap(dst, g)
	return append(dst, '}')
}

// AppendDrainPush tells a client to move to another node.
func AppendDrainPush(dst []byte, d Drain) []byte {
	dst = append(dst, `{"drain":`...)
	dst = AppendDrain(dst, d)
	return append(dst, '}')
}

// AppendDrain writes the drain as a JSON object: the reason of a close, too.
func AppendDrain(dst []byte, d Drain) []byte {
	dst = append(dst, `{"after_ms":`...)
	dst = strconv.AppendInt(dst, d.AfterMS, 10)
	return append(dst, '}')
}

// AppendTokenPush tells a client that its token ends soon.
func AppendTokenPush(dst []byte, t TokenTime) []byte {
	dst = append(dst, `{"token":`...)
	dst = AppendTokenTime(dst, t)
	return append(dst, '}')
}

// AppendTokenTime writes it as a JSON object.
func AppendTokenTime(dst []byte, t TokenTime) []byte {
	dst = append(dst, `{"expires_in_ms":`...)
	dst = strconv.AppendInt(dst, t.ExpiresInMS, 10)
	return append(dst, '}')
}

// AppendSubscribed answers a subscribe.
func AppendSubscribed(dst []byte, id *uint64, s *Subscribed) []byte {
	dst = appendNumber(append(dst, '{'), "id", id)
	dst = append(dst, `"subscribed":{"cursor":`...)
	dst = AppendString(dst, s.Cursor)
	dst = append(dst, `,"recovering":`...)
	dst = strconv.AppendBool(dst, s.Recovering)
	dst = append(dst, `,"recovered":`...)
	dst = strconv.AppendBool(dst, s.Recovered)
	dst = AppendGapsField(dst, s.Gaps)
	for i := range s.Presence {
		separator := `,`
		if i == 0 {
			separator = `,"presence":[`
		}
		dst = AppendPresence(append(dst, separator...), &s.Presence[i])
	}
	if len(s.Presence) > 0 {
		dst = append(dst, ']')
	}
	return append(dst, '}', '}')
}

// AppendGapsField writes the gaps as a further field of an object, and nothing
// if there are none.
func AppendGapsField(dst []byte, gaps []Gap) []byte {
	if len(gaps) == 0 {
		return dst
	}
	dst = append(dst, `,"gaps":[`...)
	for i := range gaps {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendGap(dst, &gaps[i])
	}
	return append(dst, ']')
}

// AppendPublished answers a publish that was taken.
func AppendPublished(dst []byte, id *uint64, p *Published) []byte {
	dst = appendNumber(append(dst, '{'), "id", id)
	dst = append(dst, `"published":`...)
	dst = p.Append(dst)
	return append(dst, '}')
}

// AppendReply answers with an object that is JSON already.
func AppendReply(dst []byte, id *uint64, name string, object []byte) []byte {
	dst = appendNumber(append(dst, '{'), "id", id)
	dst = AppendString(dst, name)
	dst = append(dst, ':')
	dst = append(dst, object...)
	return append(dst, '}')
}

// AppendErrorReply refuses a command or, with sub, ends a subscription.
func AppendErrorReply(dst []byte, id, sub *uint64, e *Error) []byte {
	dst = appendNumber(append(dst, '{'), "id", id)
	dst = appendNumber(dst, "sub", sub)
	dst = append(dst, `"error":`...)
	dst = AppendErrorObject(dst, e)
	return append(dst, '}')
}

// AppendErrorObject writes the error as WebSocket replies and results of
// batches show it.
func AppendErrorObject(dst []byte, e *Error) []byte {
	dst = append(dst, `{"code":`...)
	dst = AppendString(dst, string(e.Code))
	dst = append(dst, `,"message":`...)
	dst = AppendString(dst, e.Detail)
	dst = appendRetry(dst, e)
	return append(dst, '}')
}

// AppendProblem writes the error as application/problem+json (RFC 9457).
func AppendProblem(dst []byte, e *Error) []byte {
	title := strings.ReplaceAll(string(e.Code), "_", " ")
	dst = append(dst, `{"type":"urn:pushd:error:`...)
	dst = append(dst, e.Code...)
	dst = append(dst, `","title":`...)
	dst = AppendString(dst, title)
	dst = append(dst, `,"status":`...)
	dst = strconv.AppendInt(dst, int64(e.Code.Status()), 10)
	dst = append(dst, `,"code":`...)
	dst = AppendString(dst, string(e.Code))
	dst = append(dst, `,"detail":`...)
	if e.Detail == "" {
		dst = AppendString(dst, http.StatusText(e.Code.Status()))
	} else {
		dst = AppendString(dst, e.Detail)
	}
	dst = appendRetry(dst, e)
	return append(dst, '}')
}

// appendRetry writes what is to be done: when, or with which number.
func appendRetry(dst []byte, e *Error) []byte {
	if e.Expected != nil {
		dst = append(dst, `,"expected":`...)
		dst = strconv.AppendUint(dst, *e.Expected, 10)
	}
	if e.RetryAfter <= 0 {
		return dst
	}
	dst = append(dst, `,"retry_after_ms":`...)
	return strconv.AppendInt(dst, e.RetryAfter.Milliseconds(), 10)
}

// appendNumber writes a field that leads an object, if there is one.
func appendNumber(dst []byte, name string, n *uint64) []byte {
	if n == nil {
		return dst
	}
	dst = append(dst, '"')
	dst = append(dst, name...)
	dst = append(dst, '"', ':')
	dst = strconv.AppendUint(dst, *n, 10)
	return append(dst, ',')
}
