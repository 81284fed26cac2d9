package broker

import (
	"slices"
	"strings"
	"time"

	"github.com/pushd/pushd/protocol"
)

// Webhook is a registration, as the catalog keeps it. Immutable: a change is a
// new one of a higher revision.
type Webhook struct {
	ID       string
	Revision uint64
	Epoch    uint64 // of its consumers; raised when it begins anew
	Created  time.Time
	Spec     protocol.WebhookSpec // without secret and start
	Secrets  []SealedSecret       // newest first
	Verified bool
	Paused   bool
	Disabled string  // why; "" if it is not
	MaxRate  float64 // events per second that the endpoint's handshake allowed; 0: any
}

// SealedSecret is a signing secret under the cluster's webhook key.
type SealedSecret struct {
	Sealed []byte
	Until  time.Time // when it stops signing; zero: never
}

// PutWebhook makes a webhook or replaces the revision that stands before its
// own; any other is refused with [protocol.Conflict].
type PutWebhook struct{ Webhook *Webhook }

// DeleteWebhook removes a webhook.
type DeleteWebhook struct{ ID string }

// WithoutWebhook changes nothing; it is refused if there is such a webhook. So
// a partition's leader makes sure that consumers which its own copy of the
// catalog does not know are really nobody's.
type WithoutWebhook struct{ ID string }

// SetWebhookKey names the key that seals secrets, once: another is refused.
type SetWebhookKey struct{ Fingerprint string }

func (c PutWebhook) Encode() []byte     { return encodeMeta(metaEntry{PutWebhook: &c}) }
func (c DeleteWebhook) Encode() []byte  { return encodeMeta(metaEntry{DeleteWebhook: &c}) }
func (c WithoutWebhook) Encode() []byte { return encodeMeta(metaEntry{WithoutWebhook: &c}) }
func (c SetWebhookKey) Encode() []byte  { return encodeMeta(metaEntry{SetWebhookKey: &c}) }

// Webhook finds a webhook by id, nil if there is none.
func (c *Catalog) Webhook(id string) *Webhook {
	if i, ok := c.findWebhook(id); ok {
		return c.Webhooks[i]
	}
	return nil
}

func (c *Catalog) findWebhook(id string) (int, bool) {
	return slices.BinarySearchFunc(c.Webhooks, id, func(w *Webhook, id string) int { return strings.Compare(w.ID, id) })
}

// applyWebhook changes the list of webhooks, which is replaced, never written.
func (c *Catalog) applyWebhook(e metaEntry) error {
	switch {
	case e.PutWebhook != nil && e.PutWebhook.Webhook != nil:
		return c.putWebhook(e.PutWebhook.Webhook)
	case e.DeleteWebhook != nil:
		if i, ok := c.findWebhook(e.DeleteWebhook.ID); ok {
			c.Webhooks = slices.Delete(slices.Clone(c.Webhooks), i, i+1)
		}
	case e.WithoutWebhook != nil:
		if c.Webhook(e.WithoutWebhook.ID) != nil {
			return protocol.Conflict.Errorf("there is a webhook %s", e.WithoutWebhook.ID)
		}
	case e.SetWebhookKey != nil:
		if c.WebhookKey != "" && c.WebhookKey != e.SetWebhookKey.Fingerprint {
			return protocol.Conflict.Errorf("the cluster has a key for webhooks already")
		}
		c.WebhookKey = e.SetWebhookKey.Fingerprint
	}
	return nil
}

func (c *Catalog) putWebhook(w *Webhook) error {
	i, exists := c.findWebhook(w.ID)
	switch {
	case exists && c.Webhooks[i].Revision+1 != w.Revision, !exists && w.Revision != 1:
		return protocol.Conflict.Errorf("the webhook %s was changed by somebody else at the same time; look at it and try again", w.ID)
	case !exists && len(c.Webhooks) >= maxWebhooks:
		return protocol.Conflict.Errorf("there are %d webhooks, more are not possible", maxWebhooks)
	case exists:
		c.Webhooks = slices.Clone(c.Webhooks)
		c.Webhooks[i] = w
	default:
		c.Webhooks = slices.Insert(slices.Clone(c.Webhooks), i, w)
	}
	return nil
}
