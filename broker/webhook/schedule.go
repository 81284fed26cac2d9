package webhook

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// verdict is what an attempt means for its event and its endpoint.
type verdict uint8

const (
	delivered      verdict = iota
	filtered               // not of the types that are wanted: nothing was sent
	vanished               // no longer retained: nothing was sent
	unread                 // could not be read: nothing was sent
	canceled               // this node no longer leads the partition, or the webhook was changed
	failed                 // try again
	malformed              // the endpoint calls the event itself bad
	refusedForGood         // the endpoint wants this event never again
	throttled              // the endpoint wants nothing for a while
	gone                   // the endpoint wants nothing any more
)

// result is one attempt's end.
type result struct {
	verdict    verdict
	blamed     bool // plainly the endpoint's failure, not the event's
	blocked    bool // the guard kept it from being sent
	status     int  // 0: there was no answer
	reason     string
	retryAfter time.Duration
	body       []byte // the beginning of the answer
	took       time.Duration
	at         time.Time
}

// judge reads an answer. Nothing but 2xx is success, whatever the body says.
func judge(status int, h http.Header, now time.Time) (r result) {
	r.status = status
	r.retryAfter = parseRetryAfter(h.Get("Retry-After"), now)
	if status >= 200 && status < 300 {
		r.verdict = delivered
		return r
	}
	r.verdict, r.reason = failed, strconv.Itoa(status)+" "+http.StatusText(status)
	switch wish := strings.ToLower(h.Get("Webhook-Delivery")); {
	case status == http.StatusGone || wish == "disable":
		r.verdict = gone
	case wish == "abort-message":
		r.verdict = refusedForGood
	case status == http.StatusTooManyRequests || r.retryAfter > 0:
		r.verdict, r.blamed = throttled, true
	case status == http.StatusRequestEntityTooLarge, status == http.StatusUnsupportedMediaType, status == http.StatusUnprocessableEntity:
		r.verdict = malformed
	case status == http.StatusBadGateway, status == http.StatusServiceUnavailable, status == http.StatusGatewayTimeout:
		r.blamed = true
	case status >= 300 && status < 400:
		r.reason += ", not followed"
		if to := h.Get("Location"); to != "" {
			r.reason += ": " + shorten(to, 200)
		}
	}
	return r
}

// parseRetryAfter reads seconds or a date (RFC 9110 §10.2.3), 0 if there is
// neither.
func parseRetryAfter(s string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(s, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(s); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// delay is how long to wait behind the n-th failure: 2 s, 6 s, 18 s, … 6 h.
func delay(n int) time.Duration {
	d := firstDelay
	for i := 1; i < n && d < maxDelay; i++ {
		d *= delayFactor
	}
	return min(d, maxDelay)
}

// jitter spreads a delay over 0.8 to 1.2 of it.
func jitter(d time.Duration) time.Duration { return d*4/5 + rand.N(d*2/5+1) }

func shorten(s string, most int) string {
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
