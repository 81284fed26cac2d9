package protocol

import "time"

// States of a [Webhook].
const (
	WebhookVerifying = "verifying" // the endpoint has not agreed yet; events wait
	WebhookActive    = "active"
	WebhookPaused    = "paused"   // by its owner; events wait
	WebhookDisabled  = "disabled" // by the endpoint's answers; events wait
)

// A WebhookSpec is POST /v1/webhooks: what its owner decides.
type WebhookSpec struct {
	URL         string            `json:"url"`
	Topics      []string          `json:"topics"`                 // topics and patterns
	Types       []string          `json:"types,omitempty"`        // event types; none: all
	After       string            `json:"after,omitempty"`        // where it begins; "" means latest
	Secret      string            `json:"secret,omitempty"`       // "whsec_" and base64 of 24 to 64 bytes; "" lets the server choose
	Ordering    string            `json:"ordering,omitempty"`     // parallel (default) or ordered, by topic
	Format      string            `json:"format,omitempty"`       // standard (default), cloudevents or envelope
	Concurrency int               `json:"concurrency,omitempty"`  // requests in flight, 1 to 64; 0 means 8
	Rate        float64           `json:"rate,omitempty"`         // events per second; 0 means any
	Headers     map[string]string `json:"headers,omitempty"`      // sent with each request
	MaxAttempts int               `json:"max_attempts,omitempty"` // before an event is given up; 0 means 24
	MaxAge      string            `json:"max_age,omitempty"`      // the same, as a Go duration from the first failure; "" means 72h
	Description string            `json:"description,omitempty"`
}

// A WebhookPatch is PATCH /v1/webhooks/{id}: what is nil stays.
type WebhookPatch struct {
	URL         *string            `json:"url,omitempty"`
	Topics      *[]string          `json:"topics,omitempty"`
	Types       *[]string          `json:"types,omitempty"`
	Ordering    *string            `json:"ordering,omitempty"`
	Format      *string            `json:"format,omitempty"`
	Concurrency *int               `json:"concurrency,omitempty"`
	Rate        *float64           `json:"rate,omitempty"`
	Headers     *map[string]string `json:"headers,omitempty"`
	MaxAttempts *int               `json:"max_attempts,omitempty"`
	MaxAge      *string            `json:"max_age,omitempty"`
	Description *string            `json:"description,omitempty"`
}

// Apply changes the spec.
func (p *WebhookPatch) Apply(s *WebhookSpec) {
	set(&s.URL, p.URL)
	set(&s.Topics, p.Topics)
	set(&s.Types, p.Types)
	set(&s.Ordering, p.Ordering)
	set(&s.Format, p.Format)
	set(&s.Concurrency, p.Concurrency)
	set(&s.Rate, p.Rate)
	set(&s.Headers, p.Headers)
	set(&s.MaxAttempts, p.MaxAttempts)
	set(&s.MaxAge, p.MaxAge)
	set(&s.Description, p.Description)
}

func set[T any](field, value *T) {
	if value != nil {
		*field = *value
	}
}

// A Webhook is what the server answers about one.
type Webhook struct {
	ID          string            `json:"id"`
	URL         string            `json:"url"`
	Topics      []string          `json:"topics"`
	Types       []string          `json:"types"`
	Ordering    string            `json:"ordering"`
	Format      string            `json:"format"`
	Concurrency int               `json:"concurrency"`
	Rate        float64           `json:"rate"` // 0: any
	Headers     map[string]string `json:"headers"`
	MaxAttempts int               `json:"max_attempts"`
	MaxAge      string            `json:"max_age"`
	Description string            `json:"description"`
	State       string            `json:"state"`
	StateReason string            `json:"state_reason"`
	Created     time.Time         `json:"created"`
	Lag         WebhookLag        `json:"lag"`
	LastError   string            `json:"last_error"`
	Stats       WebhookStats      `json:"stats"`
	PublicKey   string            `json:"public_key,omitempty"` // verifies Ed25519 signatures, where the secret is such a key
	Secret      string            `json:"secret,omitempty"`     // in the answers to POST and rotate-secret only
}

// WebhookLag is what has not been delivered.
type WebhookLag struct {
	Events   uint64 `json:"events"`    // of its topics, whatever their type
	OldestMS int64  `json:"oldest_ms"` // age of the oldest of them
}

// WebhookStats count requests since the nodes that make them were started.
type WebhookStats struct {
	Attempts  uint64 `json:"attempts"`
	Delivered uint64 `json:"delivered"` // answered 2xx
	Failed    uint64 `json:"failed"`
	Dead      uint64 `json:"dead"` // events that became dead letters
}

// Add adds another node's.
func (s *WebhookStats) Add(o WebhookStats) {
	s.Attempts += o.Attempts
	s.Delivered += o.Delivered
	s.Failed += o.Failed
	s.Dead += o.Dead
}

// WebhookList is GET /v1/webhooks.
type WebhookList struct {
	Webhooks []Webhook `json:"webhooks"`
	Next     string    `json:"next,omitempty"`
}

// A WebhookAttempt is one request to an endpoint.
type WebhookAttempt struct {
	EventID     string     `json:"event_id"`
	Topic       string     `json:"topic"`
	Offset      uint64     `json:"offset"`
	Attempt     int        `json:"attempt"` // from 1
	Time        time.Time  `json:"time"`
	Status      *int       `json:"status"` // nil: there was no answer
	Error       string     `json:"error"`
	DurationMS  int64      `json:"duration_ms"`
	NextAttempt *time.Time `json:"next_attempt"` // nil: none
}

// WebhookAttempts is GET /v1/webhooks/{id}/attempts, newest first.
type WebhookAttempts struct {
	Attempts []WebhookAttempt `json:"attempts"`
}

// WebhookTest is the answer to POST /v1/webhooks/{id}/test.
type WebhookTest struct {
	Delivered  bool   `json:"delivered"` // the endpoint answered 2xx
	Status     *int   `json:"status"`    // nil: there was no answer
	Error      string `json:"error"`
	DurationMS int64  `json:"duration_ms"`
	Body       string `json:"body"` // the beginning of the endpoint's answer
}

// WebhookSecret is POST /v1/webhooks/{id}/rotate-secret.
type WebhookSecret struct {
	Secret string `json:"secret,omitempty"` // "" lets the server choose
}

// WebhookReplay is POST /v1/webhooks/{id}/replay.
type WebhookReplay struct {
	After string `json:"after"` // a start position
}
