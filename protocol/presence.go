package protocol

import (
	"bytes"
	"encoding/json"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"
)

// Member is a client that is present in a topic. Its connections count once
// each, the member once.
type Member struct {
	ID          string          `json:"id"`
	Info        json.RawMessage `json:"info,omitempty"` // what the member says of itself
	Connections int             `json:"connections"`    // those that may still come back within their grace, too
	Since       time.Time       `json:"since"`
	Nodes       []string        `json:"nodes"` // names of the nodes that it is connected to
}

// PresenceList is who is in a topic: a page of the members by id, or without
// any where only the count was asked for.
type PresenceList struct {
	Topic   string   `json:"topic"`
	Count   int      `json:"count"`
	Members []Member `json:"members"`
	Next    string   `json:"next,omitempty"` // give it as after to go on
}

// PresenceChange is what changed in a topic since the change before. Where that
// is too much to tell one by one, Members has the first page of all that are
// there instead, and those not in it are to be asked for.
type PresenceChange struct {
	Topic   string
	Count   int
	Joined  []Member
	Updated []Member // whose info changed
	Left    []Member
	Members []Member // not nil: replaces all that was told before

	once   sync.Once // guards object
	object []byte
}

// Presence is either a [PresenceList] or a [PresenceChange] as clients decode
// them.
type Presence struct {
	Topic   string   `json:"topic"`
	Count   int      `json:"count"`
	Members []Member `json:"members,omitempty"`
	Joined  []Member `json:"joined,omitempty"`
	Updated []Member `json:"updated,omitempty"`
	Left    []Member `json:"left,omitempty"`
	Next    string   `json:"next,omitempty"`
}

// CheckMember says whether id may be a member's: 1 to [MaxLabelBytes] bytes of
// printable UTF-8. The error is an *[Error] with [BadMember].
func CheckMember(id string) error {
	if err := checkLabel(id); err != nil {
		return BadMember.Errorf("member id %s: %v; say who you are like member=ann", quote(id), err)
	}
	return nil
}

// CheckInfo compacts what a member says of itself: a JSON value of at most
// [MaxInfoBytes], or nothing. The error is an *[Error] with [BadInfo].
func CheckInfo(info []byte) (json.RawMessage, error) {
	if len(info) == 0 {
		return nil, nil
	}
	if len(info) > MaxInfoBytes {
		return nil, BadInfo.Errorf("the info has %d bytes, at most %d are allowed; put big things into an event", len(info), MaxInfoBytes)
	}
	var out bytes.Buffer
	if err := json.Compact(&out, info); err != nil || !utf8.Valid(info) {
		return nil, BadInfo.Errorf(`the info is not JSON in UTF-8 such as {"name":"Ann"}`)
	}
	return out.Bytes(), nil
}

// AppendMember writes one member.
func AppendMember(dst []byte, m *Member) []byte {
	dst = append(dst, `{"id":`...)
	dst = AppendString(dst, m.ID)
	if len(m.Info) > 0 {
		dst = append(dst, `,"info":`...)
		dst = append(dst, m.Info...)
	}
	dst = append(dst, `,"connections":`...)
	dst = strconv.AppendInt(dst, int64(m.Connections), 10)
	dst = append(dst, `,"since":"`...)
	dst = AppendTime(dst, m.Since.UnixNano())
	dst = append(dst, `","nodes":[`...)
	for i, n := range m.Nodes {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendString(dst, n)
	}
	return append(dst, ']', '}')
}

func appendMembers(dst []byte, name string, list []Member) []byte {
	dst = append(dst, ',', '"')
	dst = append(dst, name...)
	dst = append(dst, `":[`...)
	for i := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendMember(dst, &list[i])
	}
	return append(dst, ']')
}

func appendCount(dst []byte, topic string, count int) []byte {
	dst = append(dst, `{"topic":`...)
	dst = AppendString(dst, topic)
	dst = append(dst, `,"count":`...)
	return strconv.AppendInt(dst, int64(count), 10)
}

// AppendPresence writes the list; with Members nil, topic and count alone.
func AppendPresence(dst []byte, l *PresenceList) []byte {
	dst = appendCount(dst, l.Topic, l.Count)
	if l.Members != nil {
		dst = appendMembers(dst, "members", l.Members)
	}
	if l.Next != "" {
		dst = append(dst, `,"next":`...)
		dst = AppendString(dst, l.Next)
	}
	return append(dst, '}')
}

// Object is the change as a JSON object, made once for all readers.
func (c *PresenceChange) Object() []byte {
	c.once.Do(func() {
		dst := appendCount(nil, c.Topic, c.Count)
		dst = appendMembers(dst, "joined", c.Joined)
		dst = appendMembers(dst, "left", c.Left)
		if len(c.Updated) > 0 {
			dst = appendMembers(dst, "updated", c.Updated)
		}
		if c.Members != nil {
			dst = appendMembers(dst, "members", c.Members)
		}
		c.object = append(dst, '}')
	})
	return c.object
}

// AppendPresencePush writes a change for a reader on a WebSocket.
func AppendPresencePush(dst []byte, sub *uint64, c *PresenceChange) []byte {
	dst = appendNumber(append(dst, '{'), "sub", sub)
	dst = append(dst, `"presence":`...)
	dst = append(dst, c.Object()...)
	return append(dst, '}')
}
