package integration

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
	"github.com/pushd/pushd/protocol/client"
)

// guardedPair is two nodes that ask for tokens, and the files of their keys.
func guardedPair(t *testing.T) (nodes []*process, secrets, keys string) {
	t.Helper()
	dir := t.TempDir()
	secrets, keys = filepath.Join(dir, "auth.key"), filepath.Join(dir, "keys.jsonl")
	mustRun(t, "keygen", secrets)
	if err := os.WriteFile(keys, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	flags := []string{"--auth-hs256-key-file", secrets, "--auth-keys-file", keys}
	nodes = []*process{startNode(t, "n1", flags...)}
	return append(nodes, startNode(t, "n2", append([]string{"join", nodes[0].gossip}, flags...)...)), secrets, keys
}

// ask sends a request with a token, "" for none.
func (p *process) ask(method, path, token, body string) (int, string) {
	p.t.Helper()
	r, err := http.NewRequest(method, p.url(path), strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestATicketIsGoodOnceAtAnyNode(t *testing.T) {
	t.Parallel()
	nodes, secrets, _ := guardedPair(t)
	token := mustRun(t, "token", "--key-file", secrets, "--sub", "ann", "--cap", "a=sub,hist,pub")
	for i, made := range nodes {
		for j, used := range nodes {
			status, body := made.ask(http.MethodPost, "/v1/tickets", token, "")
			var ticket protocol.Ticket
			if err := json.Unmarshal([]byte(body), &ticket); status != 201 || err != nil {
				t.Fatalf("a ticket of n%d: got %d %s, want 201", i+1, status, body)
			}
			path := "/v1/topics/a/events?after=latest&wait=1ms&ticket=" + ticket.Ticket
			if status, body := used.ask(http.MethodGet, path, "", ""); status != 200 {
				t.Errorf("a ticket of n%d at n%d: got %d %s, want 200", i+1, j+1, status, body)
			}
			for _, again := range nodes {
				if status, _ := again.ask(http.MethodGet, path, "", ""); status != 401 {
					t.Errorf("a ticket of n%d, used at n%d, again: got %d, want 401", i+1, j+1, status)
				}
			}
		}
	}
}

func TestAReaderOutlivesItsTokensOverEachSystem(t *testing.T) {
	t.Parallel()
	nodes, secrets, _ := guardedPair(t)
	for _, via := range []client.Via{client.WebSocket, client.SSE, client.LongPoll} {
		t.Run(string(via), func(t *testing.T) {
			t.Parallel()
			topic := "out." + string(via)
			made := atomic.Int32{}
			c, err := client.New(client.Options{Servers: []string{nodes[0].url(""), nodes[1].url("")}, GetToken: func(context.Context) (string, error) {
				made.Add(1)
				return mustRun(t, "token", "--key-file", secrets, "--sub", "ann", "--cap", "out.*=sub,pub", "--ttl", "3s"), nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			ctx, cancel := context.WithTimeout(t.Context(), readyWithin)
			defer cancel()
			sub, err := c.Subscribe(client.SubscribeOptions{Topics: []string{topic}, Via: via, After: mustPublish(ctx, t, c, topic)})
			if err != nil {
				t.Fatal(err)
			}
			defer sub.Close()
			for i, began := 0, time.Now(); time.Since(began) < 9*time.Second; i++ {
				mustPublish(ctx, t, c, topic)
				d, err := sub.Next(ctx)
				if err != nil || d.Event == nil || d.Event.Offset != uint64(i+2) {
					t.Fatalf("after %v: got %+v, %v, want event %d", time.Since(began), d, err, i+2)
				}
			}
			if n := made.Load(); n < 2 || n > 40 {
				t.Errorf("%d tokens of 3 s were asked for in 9 s, want some", n)
			}
		})
	}
}

func mustPublish(ctx context.Context, t *testing.T, c *client.Client, topic string) (cursor string) {
	t.Helper()
	r, err := c.Publish(ctx, client.Message{Topic: topic, Data: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	return r.Cursor
}

func TestAnAPIKeyWorksAtOnceAndEndsWithItsLine(t *testing.T) {
	t.Parallel()
	nodes, _, keys := guardedPair(t)
	key := mustRun(t, "token", "--api-key", "--auth-keys-file", keys, "--sub", "reader", "--cap", "a=sub,pub", "--cap", "$cluster=admin")
	nodes[1].wait("the new key", func() error {
		if status, body := nodes[1].ask(http.MethodGet, "/v1/cluster", key, ""); status != 200 {
			return errors.New(body)
		}
		return nil
	})
	c, err := client.New(client.Options{Servers: []string{nodes[1].url("")}, Token: key})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), readyWithin)
	defer cancel()
	after := mustPublish(ctx, t, c, "a")
	mustPublish(ctx, t, c, "a")
	sub, err := c.Subscribe(client.SubscribeOptions{Topics: []string{"a"}, After: after})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	if d, err := sub.Next(ctx); err != nil || d.Event == nil {
		t.Fatalf("got %+v, %v, want an event", d, err)
	}
	if err := os.WriteFile(keys, []byte("# none\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sub.Next(ctx); protocol.CodeOf(err) != protocol.BadToken {
		t.Errorf("without its line: got %v, want %s", err, protocol.BadToken)
	}
	if _, talk, code := pushd(t, nil, "topics", "--server", nodes[1].url("")); code != 5 || !strings.Contains(talk, "PUSHD_TOKEN") {
		t.Errorf("pushd topics without a token: got exit code %d and %s, want 5 and what to do", code, talk)
	}
}
