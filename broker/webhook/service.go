package webhook

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// Create registers a webhook. When it returns, every partition knows where the
// webhook begins: every event that is published from then on is delivered.
func (d *Dispatcher) Create(ctx context.Context, spec protocol.WebhookSpec) (protocol.Webhook, error) {
	if err := d.complete(&spec); err != nil {
		return protocol.Webhook{}, err
	}
	if err := d.broker.CheckStart(spec.Topics, spec.After); err != nil {
		return protocol.Webhook{}, err
	}
	key, err := d.key(ctx)
	if err != nil {
		return protocol.Webhook{}, err
	}
	s := makeSecret(secret{})
	if spec.Secret != "" {
		if s, err = parseSecret(spec.Secret); err != nil {
			return protocol.Webhook{}, err
		}
	}
	w := &broker.Webhook{ID: newID(), Revision: 1, Epoch: 1, Created: d.now().UTC(), Verified: d.options.NoVerify}
	sealed, err := seal(key, w.ID, s.text)
	if err != nil {
		return protocol.Webhook{}, err
	}
	w.Secrets = []broker.SealedSecret{{Sealed: sealed}}
	after := spec.After
	spec.Secret, spec.After = "", ""
	w.Spec = spec
	// The catalog comes last: what breaks off before is nobody's, and is swept away.
	if err := d.begin(ctx, w, broker.ConsumerQuery{ID: w.ID, Epoch: w.Epoch, After: after}); err != nil {
		return protocol.Webhook{}, err
	}
	if err := d.put(ctx, broker.PutWebhook{Webhook: w}); err != nil {
		return protocol.Webhook{}, err
	}
	answer := describe(w)
	answer.Secret, answer.PublicKey = s.text, s.public()
	return answer, nil
}

// put changes the catalog, and takes it over here without waiting for the next
// look at it.
func (d *Dispatcher) put(ctx context.Context, c broker.MetaCommand) error {
	err := d.node.Change(ctx, c)
	if err == nil {
		d.follow()
	}
	return err
}

func newID() string {
	var b [10]byte
	_, _ = rand.Read(b[:]) // never fails
	return idPrefix + strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}

// key waits a little for the key, which a node that has just started may still
// be asking for.
func (d *Dispatcher) key(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	key := d.node.Key()
	for key == nil && broker.Pause(ctx, pollPeriod) {
		key = d.node.Key()
	}
	if key == nil {
		return nil, protocol.NoLeader.Errorf("this node does not have the cluster's key for webhook secrets yet; try again, or another node")
	}
	return key, nil
}

// begin gives the webhook a consumer in every partition.
func (d *Dispatcher) begin(ctx context.Context, w *broker.Webhook, q broker.ConsumerQuery) error {
	q.Begin, q.Topics, q.Ordered = true, w.Spec.Topics, w.Spec.Ordering == orderingOrdered
	_, err := d.everywhere(ctx, q)
	return err
}

// everywhere asks every partition's leader, at the same time.
func (d *Dispatcher) everywhere(ctx context.Context, q broker.ConsumerQuery) ([]broker.ConsumerInfo, error) {
	partitions := len(d.node.Catalog().Partitions)
	if partitions == 0 {
		return nil, protocol.NoLeader.Errorf("this node has not joined its cluster yet; try again, or another node")
	}
	list := make([]broker.ConsumerInfo, partitions)
	failed := make([]error, partitions)
	var wg sync.WaitGroup
	for p := range partitions {
		wg.Go(func() {
			mine := q
			mine.Partition = uint16(p)
			list[p], failed[p] = d.broker.Consumer(ctx, mine)
		})
	}
	wg.Wait()
	for _, err := range failed {
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// find is the registration as this node knows it. It waits a little for one
// that was just made at another node.
func (d *Dispatcher) find(ctx context.Context, id string) (*broker.Webhook, error) {
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	for {
		if w := d.node.Catalog().Webhook(id); w != nil {
			return w, nil
		}
		if !strings.HasPrefix(id, idPrefix) || !broker.Pause(ctx, findPeriod) {
			return nil, protocol.NoSuchWebhook.Errorf("there is no webhook %q; GET /v1/webhooks lists them", shorten(id, 64))
		}
	}
}

// describe is a registration as its owner sees it, without what changes by the
// second.
func describe(w *broker.Webhook) protocol.Webhook {
	s := w.Spec
	v := protocol.Webhook{
		ID: w.ID, URL: s.URL, Topics: s.Topics, Types: s.Types, Ordering: s.Ordering, Format: s.Format, Concurrency: s.Concurrency,
		Rate: s.Rate, Headers: s.Headers, MaxAttempts: s.MaxAttempts, MaxAge: s.MaxAge, Description: s.Description,
		State: stateOf(w), StateReason: w.Disabled, Created: w.Created,
	}
	if v.Types == nil {
		v.Types = []string{}
	}
	if v.Headers == nil {
		v.Headers = map[string]string{}
	}
	switch v.State {
	case protocol.WebhookVerifying:
		v.StateReason = "the endpoint has not answered the handshake yet; events wait"
	case protocol.WebhookPaused:
		v.StateReason = "paused; events wait"
	}
	return v
}

// Get describes a webhook.
func (d *Dispatcher) Get(ctx context.Context, id string) (protocol.Webhook, error) {
	w, err := d.find(ctx, id)
	if err != nil {
		return protocol.Webhook{}, err
	}
	v := describe(w)
	list, err := d.everywhere(ctx, broker.ConsumerQuery{ID: id, Topics: w.Spec.Topics})
	if err != nil {
		return v, err
	}
	oldest := int64(0)
	for _, info := range list {
		v.Lag.Events += info.Events
		if info.Oldest != 0 && (oldest == 0 || info.Oldest < oldest) {
			oldest = info.Oldest
		}
	}
	if oldest != 0 {
		v.Lag.OldestMS = max(d.now().Sub(time.Unix(0, oldest)).Milliseconds(), 0)
	}
	for _, r := range d.askAll(ctx, question{ID: id}) {
		v.LastError = max(v.LastError, r.LastError) // they begin with their time
		v.Stats.Add(r.Stats)
	}
	t, err := newTarget(w, d.node.Key())
	if err == nil && len(t.secrets) > 0 {
		v.PublicKey = t.secrets[0].public()
	} else if v.State == protocol.WebhookActive {
		v.StateReason = "this node can't open the secret (is webhook.key of its data directory the cluster's?); it sends nothing, other nodes may"
	}
	return v, nil
}

// List describes webhooks by id: those behind after, at most limit.
func (d *Dispatcher) List(ctx context.Context, after string, limit int) (protocol.WebhookList, error) {
	all := d.node.Catalog().Webhooks
	i, found := slices.BinarySearchFunc(all, after, func(w *broker.Webhook, id string) int { return strings.Compare(w.ID, id) })
	if found {
		i++
	}
	page := all[i:min(i+limit, len(all))]
	views := make([]protocol.Webhook, len(page))
	failed := make([]error, len(page))
	var wg sync.WaitGroup
	slots := make(chan struct{}, listAtOnce)
	for n, w := range page {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			views[n], failed[n] = d.Get(ctx, w.ID)
		})
	}
	wg.Wait()
	list := protocol.WebhookList{Webhooks: []protocol.Webhook{}}
	for n, err := range failed {
		switch {
		case err == nil:
			list.Webhooks = append(list.Webhooks, views[n])
		case protocol.CodeOf(err) != protocol.NoSuchWebhook: // deleted meanwhile
			return list, err
		}
	}
	if i+limit < len(all) {
		list.Next = all[i+limit-1].ID
	}
	return list, nil
}

// change replaces a registration by what edit makes of it, on top of whatever
// others change at the same time.
func (d *Dispatcher) change(ctx context.Context, id string, edit func(w *broker.Webhook) error) error {
	for range 8 {
		w, err := d.find(ctx, id)
		if err != nil {
			return err
		}
		next := *w
		next.Revision++
		if err := edit(&next); err != nil {
			return err
		}
		err = d.put(ctx, broker.PutWebhook{Webhook: &next})
		if protocol.CodeOf(err) != protocol.Conflict {
			return err
		}
		if !broker.Pause(ctx, pollPeriod) {
			return ctx.Err()
		}
	}
	return protocol.Conflict.Errorf("the webhook %s is being changed by others all the time; try again", id)
}

func (d *Dispatcher) changeAndGet(ctx context.Context, id string, edit func(w *broker.Webhook) error) (protocol.Webhook, error) {
	if err := d.change(ctx, id, edit); err != nil {
		return protocol.Webhook{}, err
	}
	return d.Get(ctx, id)
}

// Patch changes what its owner decides. When it returns, every event that is
// published from then on meets the webhook as it is now. An endpoint at another
// host has to agree anew.
func (d *Dispatcher) Patch(ctx context.Context, id string, p protocol.WebhookPatch) (protocol.Webhook, error) {
	revision := uint64(0)
	err := d.change(ctx, id, func(w *broker.Webhook) error {
		before := w.Spec.URL
		p.Apply(&w.Spec)
		if err := d.complete(&w.Spec); err != nil {
			return err
		}
		if !d.options.NoVerify && hostOfURL(before) != hostOfURL(w.Spec.URL) {
			w.Verified, w.MaxRate = false, 0
		}
		revision = w.Revision
		return nil
	})
	if err == nil {
		err = d.takenUp(ctx, id, revision)
	}
	if err != nil {
		return protocol.Webhook{}, err
	}
	return d.Get(ctx, id)
}

// Pause stops deliveries; events wait.
func (d *Dispatcher) Pause(ctx context.Context, id string) (protocol.Webhook, error) {
	return d.changeAndGet(ctx, id, func(w *broker.Webhook) error {
		w.Paused = true
		return nil
	})
}

// Resume goes on where deliveries stopped, whether they were paused or
// disabled.
func (d *Dispatcher) Resume(ctx context.Context, id string) (protocol.Webhook, error) {
	return d.changeAndGet(ctx, id, func(w *broker.Webhook) error {
		w.Paused, w.Disabled = false, ""
		return nil
	})
}

// Delete forgets a webhook.
func (d *Dispatcher) Delete(ctx context.Context, id string) error {
	if _, err := d.find(ctx, id); err != nil {
		return err
	}
	if err := d.put(ctx, broker.DeleteWebhook{ID: id}); err != nil {
		return err
	}
	for _, name := range []string{id, id + replaySuffix} {
		if _, err := d.everywhere(ctx, broker.ConsumerQuery{ID: name, Delete: true}); err != nil {
			d.log.Info("progress of a deleted webhook is swept later", "webhook", id, "err", err)
		}
	}
	return nil
}

// RotateSecret gives a webhook another secret. The old one signs beside it for
// a day.
func (d *Dispatcher) RotateSecret(ctx context.Context, id, text string) (protocol.Webhook, error) {
	key, err := d.key(ctx)
	if err != nil {
		return protocol.Webhook{}, err
	}
	var made secret
	err = d.change(ctx, id, func(w *broker.Webhook) error {
		t, err := newTarget(w, key)
		if err != nil || len(t.secrets) == 0 {
			return errors.Join(err, ErrNoKey)
		}
		made = makeSecret(t.secrets[0])
		if text != "" {
			if made, err = parseSecret(text); err != nil {
				return err
			}
		}
		sealed, err := seal(key, w.ID, made.text)
		if err != nil {
			return err
		}
		w.Secrets = rotate(w.Secrets, sealed, d.now())
		return nil
	})
	if err != nil {
		return protocol.Webhook{}, err
	}
	v, err := d.Get(ctx, id)
	v.Secret, v.PublicKey = made.text, made.public()
	return v, err
}

// rotate puts a secret before the others, which end within a day.
func rotate(old []broker.SealedSecret, sealed []byte, now time.Time) []broker.SealedSecret {
	list := []broker.SealedSecret{{Sealed: sealed}}
	until := now.Add(secretOverlap).UTC()
	for _, s := range old {
		if s.Until.IsZero() || s.Until.After(until) {
			s.Until = until
		}
		if s.Until.After(now) && len(list) < maxSecrets {
			list = append(list, s)
		}
	}
	return list
}

// Replay delivers again what was published behind a start position, under the
// same ids. Beside what is new, unless order is to be kept: then the webhook
// itself goes back.
func (d *Dispatcher) Replay(ctx context.Context, id, after string) (protocol.Webhook, error) {
	if after == "" {
		return protocol.Webhook{}, protocol.BadRequest.Errorf(`say from where: {"after":"earliest"}, a cursor, "-100", "@2026-01-02T15:04:05Z" or "@24h"`)
	}
	return d.changeAndGet(ctx, id, func(w *broker.Webhook) error {
		if err := d.broker.CheckStart(w.Spec.Topics, after); err != nil {
			return err
		}
		w.Epoch++
		q := broker.ConsumerQuery{ID: id, Epoch: w.Epoch, After: after}
		if w.Spec.Ordering != orderingOrdered {
			q.ID, q.Bounded = id+replaySuffix, true
		}
		return d.begin(ctx, w, q)
	})
}
