package edge

import (
	"context"
	"net/http"

	"github.com/pushd/pushd/protocol"
)

// Webhooks keeps registrations of endpoints that events are sent to.
type Webhooks interface {
	Create(ctx context.Context, spec protocol.WebhookSpec) (protocol.Webhook, error)
	Get(ctx context.Context, id string) (protocol.Webhook, error)
	List(ctx context.Context, after string, limit int) (protocol.WebhookList, error)
	Patch(ctx context.Context, id string, p protocol.WebhookPatch) (protocol.Webhook, error)
	Delete(ctx context.Context, id string) error
	Pause(ctx context.Context, id string) (protocol.Webhook, error)
	Resume(ctx context.Context, id string) (protocol.Webhook, error)
	Test(ctx context.Context, id string) (protocol.WebhookTest, error)
	Replay(ctx context.Context, id, after string) (protocol.Webhook, error)
	RotateSecret(ctx context.Context, id, secret string) (protocol.Webhook, error)
	Attempts(ctx context.Context, id string, limit int) (protocol.WebhookAttempts, error)
}

func (s *Server) webhookRoutes() []route {
	post := func(h func(Webhooks, http.ResponseWriter, *http.Request, string) error) map[string]handler {
		return on(http.MethodPost, s.onWebhook(h))
	}
	return []route{
		{operates: "$webhooks", path: "/v1/webhooks", methods: map[string]handler{http.MethodGet: s.listWebhooks, http.MethodPost: s.createWebhook}},
		{operates: "$webhooks", path: "/v1/webhooks/{id}", methods: map[string]handler{
			http.MethodGet: s.onWebhook(getWebhook), http.MethodPatch: s.onWebhook(patchWebhook), http.MethodDelete: s.onWebhook(deleteWebhook),
		}},
		{operates: "$webhooks", path: "/v1/webhooks/{id}/attempts", methods: on(http.MethodGet, s.onWebhook(listAttempts))},
		{operates: "$webhooks", path: "/v1/webhooks/{id}/pause", methods: post(pauseWebhook)},
		{operates: "$webhooks", path: "/v1/webhooks/{id}/resume", methods: post(resumeWebhook)},
		{operates: "$webhooks", path: "/v1/webhooks/{id}/test", methods: post(testWebhook)},
		{operates: "$webhooks", path: "/v1/webhooks/{id}/replay", methods: post(replayWebhook)},
		{operates: "$webhooks", path: "/v1/webhooks/{id}/rotate-secret", methods: post(rotateSecret)},
	}
}

func (s *Server) webhooks() (Webhooks, error) {
	if s.options.Webhooks == nil {
		return nil, protocol.NoSuchRoute.Errorf("this node sends no webhooks")
	}
	return s.options.Webhooks, nil
}

// onWebhook finds what every request about one webhook needs.
func (s *Server) onWebhook(h func(Webhooks, http.ResponseWriter, *http.Request, string) error) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		hooks, err := s.webhooks()
		if err != nil {
			return err
		}
		return h(hooks, w, r, r.PathValue("id"))
	}
}

// createWebhook answers POST /v1/webhooks.
func (s *Server) createWebhook(w http.ResponseWriter, r *http.Request) error {
	hooks, err := s.webhooks()
	if err != nil {
		return err
	}
	var spec protocol.WebhookSpec
	if err := readJSON(w, r, &spec, `{"url":"https://example.com/hook","topics":["orders.**"]}`); err != nil {
		return err
	}
	if err := whoOf(r).maySend(spec.Topics, spec.After); err != nil {
		return err
	}
	made, err := hooks.Create(r.Context(), spec)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/webhooks/"+made.ID)
	return writeJSON(w, http.StatusCreated, made)
}

// listWebhooks answers GET /v1/webhooks?after=&limit=.
func (s *Server) listWebhooks(w http.ResponseWriter, r *http.Request) error {
	hooks, err := s.webhooks()
	if err != nil {
		return err
	}
	q, limit, err := parsePage(r)
	if err != nil {
		return err
	}
	list, err := hooks.List(r.Context(), q.Get("after"), limit)
	return writeAnswer(w, list, err)
}

func getWebhook(hooks Webhooks, w http.ResponseWriter, r *http.Request, id string) error {
	v, err := hooks.Get(r.Context(), id)
	return writeAnswer(w, v, err)
}

func patchWebhook(hooks Webhooks, w http.ResponseWriter, r *http.Request, id string) error {
	var p protocol.WebhookPatch
	if err := readJSON(w, r, &p, `{"url":"https://example.com/other"}`); err != nil {
		return err
	}
	if who := whoOf(r); who != nil {
		if err := who.mayPatch(r.Context(), hooks, id, &p); err != nil {
			return err
		}
	}
	v, err := hooks.Patch(r.Context(), id, p)
	return writeAnswer(w, v, err)
}

func deleteWebhook(hooks Webhooks, w http.ResponseWriter, r *http.Request, id string) error {
	if err := hooks.Delete(r.Context(), id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// listAttempts answers GET /v1/webhooks/{id}/attempts?limit=.
func listAttempts(hooks Webhooks, w http.ResponseWriter, r *http.Request, id string) error {
	_, limit, err := parsePage(r)
	if err != nil {
		return err
	}
	v, err := hooks.Attempts(r.Context(), id, limit)
	return writeAnswer(w, v, err)
}

func pauseWebhook(hooks Webhooks, w http.ResponseWriter, r *http.Request, id string) error {
	v, err := hooks.Pause(r.Context(), id)
	return writeAnswer(w, v, err)
}

func resumeWebhook(hooks Webhooks, w http.ResponseWriter, r *http.Request, id string) error {
	v, err := hooks.Resume(r.Context(), id)
	return writeAnswer(w, v, err)
}

func testWebhook(hooks Webhooks, w http.ResponseWriter, r *http.Request, id string) error {
	v, err := hooks.Test(r.Context(), id)
	return writeAnswer(w, v, err)
}

func replayWebhook(hooks Webhooks, w http.ResponseWriter, r *http.Request, id string) error {
	var q protocol.WebhookReplay
	if err := readJSON(w, r, &q, `{"after":"@24h"}`); err != nil {
		return err
	}
	if who := whoOf(r); who != nil {
		before, err := hooks.Get(r.Context(), id)
		if err == nil {
			err = who.maySend(before.Topics, q.After)
		}
		if err != nil {
			return err
		}
	}
	v, err := hooks.Replay(r.Context(), id, q.After)
	return writeAnswer(w, v, err)
}

// rotateSecret answers POST …/rotate-secret; the body is empty, or names the
// secret to take.
func rotateSecret(hooks Webhooks, w http.ResponseWriter, r *http.Request, id string) error {
	var q protocol.WebhookSecret
	if r.ContentLength != 0 {
		if err := readJSON(w, r, &q, `{"secret":"whsec_…"}, or empty`); err != nil {
			return err
		}
	}
	v, err := hooks.RotateSecret(r.Context(), id, q.Secret)
	return writeAnswer(w, v, err)
}

func writeAnswer(w http.ResponseWriter, v any, err error) error {
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, v)
}

// readJSON reads a body that is one JSON object of known fields.
func readJSON(w http.ResponseWriter, r *http.Request, v any, like string) error {
	body, err := readBody(w, r, maxWebhookBody)
	if err != nil {
		return err
	}
	return decodeStrict(body, v, "the body", like)
}
