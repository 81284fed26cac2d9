package edge

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/pushd/pushd/protocol"
)

// oneHook is a service with one webhook, of which a test wants to know only who
// gets through to it.
type oneHook struct {
	Webhooks
	hook protocol.Webhook
}

func (h oneHook) Create(context.Context, protocol.WebhookSpec) (protocol.Webhook, error) {
	return h.hook, nil
}

func (h oneHook) Get(_ context.Context, id string) (protocol.Webhook, error) {
	if id != h.hook.ID {
		return protocol.Webhook{}, protocol.NoSuchWebhook.Errorf("there is no webhook %s", id)
	}
	return h.hook, nil
}

func (h oneHook) Patch(context.Context, string, protocol.WebhookPatch) (protocol.Webhook, error) {
	return h.hook, nil
}

func (h oneHook) Replay(context.Context, string, string) (protocol.Webhook, error) {
	return h.hook, nil
}

func TestAWebhookIsSentWhatItsMakerMayRead(t *testing.T) {
	s := newGuarded(t, "", func(o *Options) {
		o.Webhooks = oneHook{hook: protocol.Webhook{ID: "w", Topics: []string{"a.*"}}}
	})
	s.do(http.MethodPost, "/v1/topics/a.b/events", "hi", bearer(token(t, ann(mayAll)))...).want(201)
	own := s.get("/v1/events?topic=a.*", bearer(token(t, ann(mayAll)))...).page().Cursor
	with := func(rights ...string) []string {
		caps := map[string][]string{"$webhooks": {"admin"}}
		if len(rights) > 0 {
			caps["a.**"] = rights
		}
		return bearer(token(t, ann(caps)))
	}
	nothing, sub, hist, both := with(), with("sub"), with("hist"), with("sub", "hist")
	for _, c := range []struct {
		method, path, body string
		who                []string
		status             int
	}{
		{"POST", "", `{"url":"u","topics":["a.*"]}`, nothing, 403},
		{"POST", "", `{"url":"u","topics":["a.*"]}`, hist, 403},
		{"POST", "", `{"url":"u","topics":["a.*"]}`, sub, 201},
		{"POST", "", `{"url":"u","topics":["a.*"],"after":"latest"}`, sub, 201},
		{"POST", "", `{"url":"u","topics":["a.*"],"after":"` + own + `"}`, sub, 201},
		{"POST", "", `{"url":"u","topics":["a.b"],"after":"` + own + `"}`, sub, 403}, // another reader's: from the earliest
		{"POST", "", `{"url":"u","topics":["a.*"],"after":"earliest"}`, sub, 403},
		{"POST", "", `{"url":"u","topics":["a.*"],"after":"earliest"}`, both, 201},
		{"POST", "", `{"url":"u","topics":["a.*","b"]}`, both, 403},
		{"POST", "", `{"url":"u","topics":["**"]}`, both, 403},
		{"POST", "", `{"url":"u","topics":["$presence.**"]}`, both, 403},
		{"PATCH", "/w", `{"rate":5}`, nothing, 403},
		{"PATCH", "/w", `{"rate":5}`, sub, 200},
		{"PATCH", "/w", `{"topics":["a.c"]}`, sub, 403}, // it keeps its place: what waits is from before
		{"PATCH", "/w", `{"url":"v"}`, sub, 403},
		{"PATCH", "/w", `{"url":"v","topics":["a.c"]}`, both, 200},
		{"PATCH", "/w", `{"topics":["b"]}`, both, 403},
		{"PATCH", "/x", `{"rate":5}`, both, 404},
		{"POST", "/w/replay", `{"after":"@1h"}`, nothing, 403},
		{"POST", "/w/replay", `{"after":"@1h"}`, sub, 403},
		{"POST", "/w/replay", `{"after":"@1h"}`, both, 200},
		{"GET", "/w", "", nothing, 200},
	} {
		got := s.do(c.method, "/v1/webhooks"+c.path, c.body, c.who...)
		if got.Status != c.status {
			t.Errorf("%s %s with %s: got %d %s, want %d", c.method, c.path, c.body, got.Status, got.Body, c.status)
		} else if c.status == 403 {
			got.wantProblem(protocol.Forbidden)
		}
	}
	if got := s.do("PATCH", "/v1/webhooks/w", `{"url":"v"}`, sub...).Body; !strings.Contains(got, "register another") {
		t.Errorf("another URL without hist: got %s, want it to say what to do", got)
	}
	open := newSite(t, func(o *Options) { o.Webhooks = oneHook{hook: protocol.Webhook{ID: "w"}} })
	open.do("POST", "/v1/webhooks", `{"url":"u","topics":["**"],"after":"earliest"}`).want(201)
	open.do("PATCH", "/v1/webhooks/w", `{"url":"v"}`).want(200)
}
