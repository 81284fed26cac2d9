package broker

import (
	"context"
	"time"
)

// retain applies retention twice a second, until the broker closes.
func (b *Broker) retain() {
	for Pause(b.running, trimPeriod) {
		for _, p := range b.replicas() {
			p.trimAll(b.now())
		}
	}
}

// tidy seals and compacts, and says in the logs of partitions that are led from
// here what is to be said now and then, until the broker closes. A partition
// without a quorum holds it up, but not retention.
func (b *Broker) tidy() {
	minutely := b.now()
	for Pause(b.running, trimPeriod) {
		now := b.now()
		due := now.Sub(minutely) >= time.Minute
		if due {
			minutely = now
		}
		for _, p := range b.replicas() {
			b.complain(p, p.tend())
			b.tell(p)
			if due {
				b.forgetUseless(p, now)
			}
		}
	}
}

// tell puts the sums of new full segments into the log, at the leader.
func (b *Broker) tell(p *Partition) {
	if b.leads(p.id) == nil {
		return
	}
	for _, s := range p.unagreed() {
		b.proposeQuietly(p.id, encodeSum(b.now().UnixNano(), s))
	}
}

// forgetUseless lets the partition forget topics, at the leader.
func (b *Broker) forgetUseless(p *Partition, now time.Time) {
	list := p.useless(now, maxForgotten)
	if len(list) > 0 && b.leads(p.id) != nil {
		b.proposeQuietly(p.id, encodeForget(now.UnixNano(), list))
	}
}

// proposeQuietly proposes what is found again and proposed again if it fails.
func (b *Broker) proposeQuietly(id uint16, entry []byte) {
	log := b.logOf(id)
	if log == nil {
		return
	}
	ctx, cancel := context.WithTimeout(b.running, publishTimeout)
	defer cancel()
	_, _ = log.Propose(ctx, entry)
}

// complain logs what keeps a partition's segments from being sealed or
// compacted, once while it lasts. It is tried again.
func (b *Broker) complain(p *Partition, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != p.complaint && err != nil {
		b.log.Error("segments can not be sealed or compacted; it is tried again", "partition", p.id, "err", err)
	}
	p.complaint = text
	for _, d := range p.takeDivergences() {
		b.judge(p, d.first)
	}
}
