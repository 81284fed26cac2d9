package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/pushd/pushd/protocol"
)

// Webhooks lists webhooks by id: those behind after, at most limit.
func (c *Client) Webhooks(ctx context.Context, after string, limit int) (list protocol.WebhookList, err error) {
	q := url.Values{"after": {after}, "limit": {strconv.Itoa(limit)}}
	return list, c.getJSON(ctx, "/v1/webhooks?"+q.Encode(), &list)
}

// Webhook describes one webhook.
func (c *Client) Webhook(ctx context.Context, id string) (w protocol.Webhook, err error) {
	return w, c.getJSON(ctx, webhookPath(id, ""), &w)
}

// AddWebhook registers an endpoint. Every event of its topics that is published
// behind the answer is sent to it. The answer alone has the secret.
func (c *Client) AddWebhook(ctx context.Context, spec protocol.WebhookSpec) (w protocol.Webhook, err error) {
	return w, c.sendJSON(ctx, http.MethodPost, "/v1/webhooks", spec, &w)
}

// PatchWebhook changes what p names.
func (c *Client) PatchWebhook(ctx context.Context, id string, p protocol.WebhookPatch) (w protocol.Webhook, err error) {
	return w, c.sendJSON(ctx, http.MethodPatch, webhookPath(id, ""), p, &w)
}

// DeleteWebhook forgets a webhook.
func (c *Client) DeleteWebhook(ctx context.Context, id string) error {
	_, err := c.oneRound(ctx, request{method: http.MethodDelete, path: webhookPath(id, "")})
	return err
}

// PauseWebhook stops deliveries; events wait.
func (c *Client) PauseWebhook(ctx context.Context, id string) (w protocol.Webhook, err error) {
	return w, c.sendJSON(ctx, http.MethodPost, webhookPath(id, "/pause"), struct{}{}, &w)
}

// ResumeWebhook goes on where deliveries were paused or disabled.
func (c *Client) ResumeWebhook(ctx context.Context, id string) (w protocol.Webhook, err error) {
	return w, c.sendJSON(ctx, http.MethodPost, webhookPath(id, "/resume"), struct{}{}, &w)
}

// TestWebhook sends a signed request that is no event, and tells what came of it.
func (c *Client) TestWebhook(ctx context.Context, id string) (t protocol.WebhookTest, err error) {
	return t, c.sendJSON(ctx, http.MethodPost, webhookPath(id, "/test"), struct{}{}, &t)
}

// ReplayWebhook sends again what was published behind a start position.
func (c *Client) ReplayWebhook(ctx context.Context, id, after string) (w protocol.Webhook, err error) {
	return w, c.sendJSON(ctx, http.MethodPost, webhookPath(id, "/replay"), protocol.WebhookReplay{After: after}, &w)
}

// RotateWebhookSecret gives a webhook another secret, beside which the old one
// signs for a day. "" lets the server choose.
func (c *Client) RotateWebhookSecret(ctx context.Context, id, secret string) (w protocol.Webhook, err error) {
	return w, c.sendJSON(ctx, http.MethodPost, webhookPath(id, "/rotate-secret"), protocol.WebhookSecret{Secret: secret}, &w)
}

// WebhookAttempts lists a webhook's newest attempts.
func (c *Client) WebhookAttempts(ctx context.Context, id string, limit int) (list protocol.WebhookAttempts, err error) {
	return list, c.getJSON(ctx, webhookPath(id, "/attempts?limit=")+strconv.Itoa(limit), &list)
}

func webhookPath(id, what string) string { return "/v1/webhooks/" + url.PathEscape(id) + what }
