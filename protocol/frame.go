package protocol

import "encoding/json"

// Subprotocols of the WebSocket, in the server's order of preference.
const (
	SubprotocolJSON   = "pushd.v1.json"
	SubprotocolBinary = "pushd.v1.binary"
	TokenSubprotocol  = "base64url.bearer.pushd." // prefix; the token follows, never echoed
)

// CloseCode is a WebSocket close code. 3000–3499 ask the client to reconnect,
// 3500–3999 tell it not to.
type CloseCode uint16

// The close codes that pushd sends.
const (
	CloseNormal       CloseCode = 1000
	CloseShuttingDown CloseCode = 1001
	CloseProtocol     CloseCode = 1002
	CloseBadData      CloseCode = 1007
	ClosePolicy       CloseCode = 1008
	CloseTooBig       CloseCode = 1009
	CloseInternal     CloseCode = 1011
	CloseDrain        CloseCode = 1012 // reason: {"after_ms":…}
	CloseTokenExpired CloseCode = 3005
	CloseTooSlow      CloseCode = 3008
	CloseNoPong       CloseCode = 3012
	CloseBadToken     CloseCode = 3500
	CloseBadRequest   CloseCode = 3501
	CloseForbidden    CloseCode = 3507
)

// A Command is one JSON line that a client sends; exactly one field beside ID
// is set.
type Command struct {
	ID          *uint64             `json:"id,omitempty"`
	Subscribe   *SubscribeCommand   `json:"subscribe,omitempty"`
	Unsubscribe *UnsubscribeCommand `json:"unsubscribe,omitempty"`
	Publish     *PublishCommand     `json:"publish,omitempty"`
	History     *HistoryCommand     `json:"history,omitempty"`
	Presence    *PresenceCommand    `json:"presence,omitempty"`
	Refresh     *RefreshCommand     `json:"refresh,omitempty"`
	Ping        *struct{}           `json:"ping,omitempty"`
}

// SubscribeCommand starts a subscription; its reply is {"subscribed":…}.
type SubscribeCommand struct {
	Topics   []string        `json:"topics"`
	After    string          `json:"after,omitempty"`
	Presence bool            `json:"presence,omitempty"`
	Member   string          `json:"member,omitempty"` // with presence, where there are no tokens: who this is
	Watch    bool            `json:"watch,omitempty"`  // with presence: be told without being a member
	Info     json.RawMessage `json:"info,omitempty"`   // with presence: what the member says of itself
	Envelope *bool           `json:"envelope,omitempty"`
	OnGap    string          `json:"on_gap,omitempty"` // "error" or "" (continue)
}

// UnsubscribeCommand ends the subscription to these topics.
type UnsubscribeCommand struct {
	Topics []string `json:"topics"`
}

// PublishCommand publishes one event; its reply is {"published":…}.
type PublishCommand struct {
	Topic       string            `json:"topic"`
	Data        json.RawMessage   `json:"data,omitempty"`
	DataBase64  []byte            `json:"data_base64,omitempty"`
	Type        string            `json:"type,omitempty"`
	ContentType string            `json:"content_type,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
	EventID     string            `json:"event_id,omitempty"`
	Ack         string            `json:"ack,omitempty"` // "quorum" (default) or "none"
}

// Event is the event that the command wants published.
func (p *PublishCommand) Event() (Event, error) {
	v := Envelope{Topic: p.Topic, ID: p.EventID, Type: p.Type, ContentType: p.ContentType, Headers: p.Headers, Data: p.Data, DataBase64: p.DataBase64}
	return v.Event()
}

// HistoryCommand reads a page of one topic; its reply is {"history":…}, a
// [Page] without up_to_date.
type HistoryCommand struct {
	Topic string `json:"topic"`
	After string `json:"after,omitempty"`
	Limit int    `json:"limit,omitempty"`
}

// PresenceCommand asks who is in a topic; its reply is {"presence":…}, a
// [PresenceList]. With Info it first replaces what the asking member says of
// itself there.
type PresenceCommand struct {
	Topic string          `json:"topic"`
	After string          `json:"after,omitempty"` // the last page's next
	Limit int             `json:"limit,omitempty"`
	Info  json.RawMessage `json:"info,omitempty"`
}

// RefreshCommand replaces the session's token by another one of the same sub; its
// reply is {"refreshed":…}, a [TokenTime].
type RefreshCommand struct {
	Token string `json:"token"`
}

// A Push is one JSON line that a server sends, as clients decode it: a reply
// if it has an ID, else something that happened.
type Push struct {
	ID           *uint64        `json:"id,omitempty"`
	Sub          *uint64        `json:"sub,omitempty"` // the subscribe it belongs to, where a connection has several
	Subscribed   *Subscribed    `json:"subscribed,omitempty"`
	Unsubscribed *struct{}      `json:"unsubscribed,omitempty"`
	Published    *PublishResult `json:"published,omitempty"`
	History      *Page          `json:"history,omitempty"`
	Pong         *struct{}      `json:"pong,omitempty"`
	Error        *Problem       `json:"error,omitempty"`
	Event        *Envelope      `json:"event,omitempty"`
	Gap          *Gap           `json:"gap,omitempty"`
	Presence     *Presence      `json:"presence,omitempty"`
	Drain        *Drain         `json:"drain,omitempty"`
	Refreshed    *TokenTime     `json:"refreshed,omitempty"`
	Token        *TokenTime     `json:"token,omitempty"` // it ends soon
}

// TokenTime is what is left of a token's time, in milliseconds.
type TokenTime struct {
	ExpiresInMS int64 `json:"expires_in_ms"`
}

// Subscribed answers a subscribe.
type Subscribed struct {
	Cursor     string         `json:"cursor"`
	Recovering bool           `json:"recovering"` // the reader asked for what was before
	Recovered  bool           `json:"recovered"`  // and none of it is missing
	Gaps       []Gap          `json:"gaps,omitempty"`
	Presence   []PresenceList `json:"presence,omitempty"` // asked for: the first page of each topic
}

// Drain tells a client to move to another node.
type Drain struct {
	AfterMS int64 `json:"after_ms"`
}
