package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/pushd/pushd/protocol"
)

// guarded is a server that takes one token, and answers publishes by it.
func guarded(t *testing.T, good string) string {
	return fake(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+good {
			refuse(w, protocol.TokenExpired)
			return
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"topic":"a","offset":7,"id":"x"}`)
	})
}

func TestATokenThatHasExpiredIsReplacedOnce(t *testing.T) {
	asked := 0
	c, err := New(Options{Servers: []string{guarded(t, "t2")}, GetToken: func(context.Context) (string, error) {
		asked++
		return fmt.Sprint("t", asked), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := c.Publish(t.Context(), Message{Topic: "a"}); err != nil || asked != 2 {
			t.Fatalf("got %v after %d tokens, want nil after 2", err, asked)
		}
	}
	c.tokens.drop("t1")
	if c.tokens.now != "t2" {
		t.Error("dropping a token that is not in use any more: got another one dropped, want none")
	}
}

func TestATokenThatIsNoGoodIsNotTriedForEver(t *testing.T) {
	asked := 0
	server := guarded(t, "good")
	c, _ := New(Options{Servers: []string{server}, GetToken: func(context.Context) (string, error) { asked++; return "bad", nil }})
	if _, err := c.Publish(t.Context(), Message{Topic: "a"}); protocol.CodeOf(err) != protocol.TokenExpired || asked != 2 {
		t.Errorf("got %v after %d tokens, want %s after 2", err, asked, protocol.TokenExpired)
	}
	c, _ = New(Options{Servers: []string{server}, Token: "bad"})
	if _, err := c.Publish(t.Context(), Message{Topic: "a"}); protocol.CodeOf(err) != protocol.TokenExpired {
		t.Errorf("a token alone: got %v, want %s", err, protocol.TokenExpired)
	}
}

func TestWhoGetsNoTokenIsToldSo(t *testing.T) {
	nothing := errors.New("the login is over")
	c, _ := New(Options{Servers: []string{guarded(t, "good")}, GetToken: func(context.Context) (string, error) { return "", nothing }})
	if _, err := c.Cluster(t.Context()); !errors.Is(err, ErrNoToken) || !errors.Is(err, nothing) || errors.Is(err, ErrUnreachable) {
		t.Errorf("got %v, want %v and its reason", err, ErrNoToken)
	}
}
