package webhook

import (
	"time"

	"github.com/pushd/pushd/protocol"
)

// logged is one attempt, as it is remembered: small, since there are many.
type logged struct {
	event, topic, reason string
	offset               uint64
	at                   time.Time
	next                 int64 // milliseconds since 1970; 0: none
	took                 time.Duration
	attempt              int32
	status               int16
}

// attemptLog is a webhook's last attempts at this node: a ring.
type attemptLog struct {
	ring []logged
	next int // where the next one goes, once the ring is full
	full bool
}

// add remembers an attempt; crowded says that there is no more memory for all
// logs together. It returns by how much the ring grew.
func (l *attemptLog) add(a logged, crowded bool) int {
	if !l.full && (len(l.ring) >= maxLogged || crowded && len(l.ring) >= minLogged) {
		l.full = true
	}
	if !l.full {
		l.ring = append(l.ring, a)
		return 1
	}
	l.ring[l.next] = a
	l.next = (l.next + 1) % len(l.ring)
	return 0
}

// newest lists up to limit attempts.
func (l *attemptLog) newest(limit int) []protocol.WebhookAttempt {
	list := []protocol.WebhookAttempt{}
	for i := range min(limit, len(l.ring)) {
		list = append(list, l.ring[(l.next-1-i+2*len(l.ring))%len(l.ring)].answer())
	}
	return list
}

func (a *logged) answer() protocol.WebhookAttempt {
	w := protocol.WebhookAttempt{
		EventID: a.event, Topic: a.topic, Offset: a.offset, Attempt: int(a.attempt), Time: a.at.UTC(),
		Error: a.reason, DurationMS: a.took.Milliseconds(),
	}
	if a.status != 0 {
		status := int(a.status)
		w.Status = &status
	}
	if a.next != 0 {
		next := time.UnixMilli(a.next).UTC()
		w.NextAttempt = &next
	}
	return w
}
