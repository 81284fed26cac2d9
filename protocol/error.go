package protocol

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// A Code names a reason for refusal. Codes are wire values: the list is closed,
// append only, and no code ever changes its meaning.
type Code string

// The codes, each with the HTTP status that carries it (see [Code.Status]).
const (
	BadTopic           Code = "bad_topic"            // 400: not a topic or pattern
	TooManyTopics      Code = "too_many_topics"      // 400: more selectors than one reader may have
	BadCursor          Code = "bad_cursor"           // 400: after= is no start position
	BadRequest         Code = "bad_request"          // 400: a parameter or command is malformed
	BadJSON            Code = "bad_json"             // 400: the body is not the JSON it should be
	BadEventID         Code = "bad_event_id"         // 400
	BadEventType       Code = "bad_event_type"       // 400
	BadContentType     Code = "bad_content_type"     // 400
	BadHeader          Code = "bad_header"           // 400
	BadMember          Code = "bad_member"           // 400: not an id that a member of a topic can have
	BadInfo            Code = "bad_info"             // 400: what a member says of itself is too long, or no JSON
	BadSubprotocol     Code = "bad_subprotocol"      // 400: no offered WebSocket subprotocol is known
	BadHandshake       Code = "bad_handshake"        // 400: not a WebSocket handshake
	TokenInURL         Code = "token_in_url"         // 400: a URL is no place for a token: logs and histories keep it
	Unauthorized       Code = "unauthorized"         // 401: no token, key or ticket came with the request
	BadToken           Code = "bad_token"            // 401: what came is not valid here
	TokenExpired       Code = "token_expired"        // 401: get a new one
	Forbidden          Code = "forbidden"            // 403
	OriginNotAllowed   Code = "origin_not_allowed"   // 403
	PresenceOff        Code = "presence_off"         // 403: the topic's policy has no presence
	NoSuchRoute        Code = "no_such_route"        // 404: the path is not part of the API
	NoSuchTopic        Code = "no_such_topic"        // 404
	NoSuchPolicy       Code = "no_such_policy"       // 404
	NoSuchNode         Code = "no_such_node"         // 404
	NoSuchWebhook      Code = "no_such_webhook"      // 404
	MethodNotAllowed   Code = "method_not_allowed"   // 405
	NotAcceptable      Code = "not_acceptable"       // 406
	RequestTimeout     Code = "request_timeout"      // 408: the request took too long to arrive
	Conflict           Code = "conflict"             // 409
	ProducerFenced     Code = "producer_fenced"      // 403: another instance of the producer has begun a newer epoch
	SequenceMismatch   Code = "sequence_mismatch"    // 409: not the producer's next sequence number
	EventsGone         Code = "events_gone"          // 410: on_gap=error, and events are gone
	OffsetMismatch     Code = "offset_mismatch"      // 412: If-Match is not the topic's last offset
	PayloadTooLarge    Code = "payload_too_large"    // 413
	BadMediaType       Code = "bad_media_type"       // 415: this route does not take that content type
	TooManyRequests    Code = "too_many_requests"    // 429
	TooManyConnections Code = "too_many_connections" // 429: of the client's address, or of the node
	Internal           Code = "internal"             // 500: a bug of ours
	NoLeader           Code = "no_leader"            // 503: the partition has no leader just now; nothing was stored
	OutcomeUnknown     Code = "outcome_unknown"      // 503: the event may or may not be stored; send it again with the same id
	Overloaded         Code = "overloaded"           // 503: a queue is full; nothing was stored
	DiskFull           Code = "disk_full"            // 503
	ShuttingDown       Code = "shutting_down"        // 503
	TooManyReaders     Code = "too_many_readers"     // 503
	StoreTimeout       Code = "timeout"              // 504: no quorum in time; the event may or may not be stored
)

// Status is the HTTP status that carries the code.
func (c Code) Status() int {
	switch c {
	case Unauthorized, BadToken, TokenExpired:
		return http.StatusUnauthorized
	case Forbidden, OriginNotAllowed, PresenceOff, ProducerFenced:
		return http.StatusForbidden
	case NoSuchRoute, NoSuchTopic, NoSuchPolicy, NoSuchNode, NoSuchWebhook:
		return http.StatusNotFound
	case MethodNotAllowed:
		return http.StatusMethodNotAllowed
	case NotAcceptable:
		return http.StatusNotAcceptable
	case RequestTimeout:
		return http.StatusRequestTimeout
	case Conflict, SequenceMismatch:
		return http.StatusConflict
	case EventsGone:
		return http.StatusGone
	case OffsetMismatch:
		return http.StatusPreconditionFailed
	case PayloadTooLarge:
		return http.StatusRequestEntityTooLarge
	case BadMediaType:
		return http.StatusUnsupportedMediaType
	case TooManyRequests, TooManyConnections:
		return http.StatusTooManyRequests
	case Internal:
		return http.StatusInternalServerError
	case NoLeader, OutcomeUnknown, Overloaded, DiskFull, ShuttingDown, TooManyReaders:
		return http.StatusServiceUnavailable
	case StoreTimeout:
		return http.StatusGatewayTimeout
	}
	return http.StatusBadRequest
}

// Errorf makes an error of this code. The detail is for people: it says what
// was wrong with which value, and what to do.
func (c Code) Errorf(format string, args ...any) *Error {
	e := &Error{Code: c, Detail: fmt.Sprintf(format, args...)}
	switch c.Status() {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		e.RetryAfter = time.Second
	}
	return e
}

// An Error is a refusal that a client sees: over HTTP as
// application/problem+json (RFC 9457), on a WebSocket as an error reply.
type Error struct {
	Code       Code
	Detail     string
	RetryAfter time.Duration // when to try again; 0: trying again will not help, or at once
	Expected   *uint64       // the number that would have been taken; nil where none was asked for
}

// Expecting adds the number that would have been taken.
func (e *Error) Expecting(n uint64) *Error {
	e.Expected = &n
	return e
}

// Error is the detail with its code.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Detail }

// Is reports whether target is an *Error of the same code, so that
// errors.Is(err, &Error{Code: NoLeader}) works through wrapping.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// CodeOf is the code that err carries, [Internal] if none, "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return Internal
}
