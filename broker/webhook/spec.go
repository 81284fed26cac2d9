package webhook

import (
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pushd/pushd/protocol"
)

// Orderings and formats.
const (
	orderingParallel  = "parallel"
	orderingOrdered   = "ordered"
	formatStandard    = "standard"
	formatCloudEvents = "cloudevents"
	formatEnvelope    = "envelope"
)

// complete fills in defaults and refuses what can't be done.
func (d *Dispatcher) complete(s *protocol.WebhookSpec) error {
	setDefault(&s.Ordering, orderingParallel)
	setDefault(&s.Format, formatStandard)
	setDefault(&s.MaxAge, defaultMaxAge.String())
	if s.Concurrency == 0 {
		s.Concurrency = defaultConcurrency
	}
	if s.MaxAttempts == 0 {
		s.MaxAttempts = defaultAttempts
	}
	if len(s.Topics) == 0 {
		return protocol.BadTopic.Errorf(`topics: name at least one topic or pattern, such as ["orders.**"]`)
	}
	if _, err := protocol.ParseSelectors(s.Topics); err != nil {
		return err
	}
	if err := d.checkURL(s.URL); err != nil {
		return err
	}
	if err := checkHeaders(s.Headers); err != nil {
		return err
	}
	return checkLimits(s)
}

func setDefault(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

func (d *Dispatcher) checkURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case text == "":
		return protocol.BadRequest.Errorf("url: say where events go, such as https://example.com/hook")
	case err != nil || u.Host == "" || u.Hostname() == "" || len(text) > maxURL:
		return protocol.BadRequest.Errorf("url: must be absolute and at most %d bytes long, such as https://example.com/hook", maxURL)
	case u.Scheme != "https" && !(u.Scheme == "http" && d.options.AllowHTTP):
		return protocol.BadRequest.Errorf("url: must begin with https:// (http is allowed by the node's --webhook-allow-http, for development)")
	case u.User != nil:
		return protocol.BadRequest.Errorf("url: must carry no user name or password; requests are signed, and headers may carry a token")
	case u.Fragment != "":
		return protocol.BadRequest.Errorf("url: a part behind # is never sent; leave it out")
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	at, err := netip.ParseAddrPort(u.Hostname() + ":" + port)
	if addr, v6 := netip.ParseAddr(u.Hostname()); v6 == nil && addr.Is6() {
		at, err = netip.ParseAddrPort("[" + u.Hostname() + "]:" + port)
	}
	if err == nil {
		if err := d.guard.check(at); err != nil {
			return protocol.BadRequest.Errorf("url: %v", err)
		}
	}
	return nil
}

// reservedHeaders are ours, or belong to the connection.
var reservedHeaders = []string{"Connection", "Content-Length", "Content-Type", "Host", "Idempotency-Key", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "User-Agent", "X-Idempotency-Key"}

func checkHeaders(headers map[string]string) error {
	size := 0
	for name, value := range headers {
		size += len(name) + len(value)
		canonical := http.CanonicalHeaderKey(name)
		lower := strings.ToLower(name)
		switch {
		case slices.Contains(reservedHeaders, canonical) || strings.HasPrefix(lower, "webhook-") || strings.HasPrefix(lower, "pushd-") || strings.HasPrefix(lower, "proxy-"):
			return protocol.BadHeader.Errorf("headers: %s is set by the server or belongs to the connection", shorten(name, 64))
		case !validToken(name):
			return protocol.BadHeader.Errorf("headers: %q is no header name", shorten(name, 64))
		case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
			return protocol.BadHeader.Errorf("headers: the value of %s has control characters", name)
		}
	}
	if len(headers) > maxHeaders || size > maxHeaderBytes {
		return protocol.BadHeader.Errorf("headers: at most %d of together %d bytes", maxHeaders, maxHeaderBytes)
	}
	return nil
}

func validToken(s string) bool {
	const also = "!#$%&'*+-.^_`|~"
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(also, r))
	})
}

func checkLimits(s *protocol.WebhookSpec) error {
	age, err := time.ParseDuration(s.MaxAge)
	switch {
	case s.Ordering != orderingParallel && s.Ordering != orderingOrdered:
		return protocol.BadRequest.Errorf("ordering %q: must be parallel, or ordered (by topic)", shorten(s.Ordering, 64))
	case s.Format != formatStandard && s.Format != formatCloudEvents && s.Format != formatEnvelope:
		return protocol.BadRequest.Errorf("format %q: must be standard, cloudevents or envelope", shorten(s.Format, 64))
	case s.Concurrency < 1 || s.Concurrency > maxConcurrency:
		return protocol.BadRequest.Errorf("concurrency %d: must be 1 to %d", s.Concurrency, maxConcurrency)
	case !(s.Rate >= 0 && s.Rate <= maxRate):
		return protocol.BadRequest.Errorf("rate: must be 0 (any) to %.0f events per second", maxRate)
	case s.MaxAttempts < 1 || s.MaxAttempts > maxAttempts:
		return protocol.BadRequest.Errorf("max_attempts %d: must be 1 to %d", s.MaxAttempts, maxAttempts)
	case err != nil || age <= 0 || age > maxMaxAge:
		return protocol.BadRequest.Errorf("max_age %q: must be a duration above zero and at most %v, such as 72h", shorten(s.MaxAge, 64), maxMaxAge)
	case len(s.Types) > maxTypes:
		return protocol.BadRequest.Errorf("types: at most %d", maxTypes)
	case len(s.Description) > maxDescription:
		return protocol.BadRequest.Errorf("description: at most %d bytes", maxDescription)
	}
	for _, t := range s.Types {
		if t == "" || len(t) > protocol.MaxLabelBytes {
			return protocol.BadEventType.Errorf("types: an event type has 1 to %d bytes", protocol.MaxLabelBytes)
		}
	}
	return nil
}
