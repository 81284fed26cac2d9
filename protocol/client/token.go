package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/pushd/pushd/protocol"
)

// ErrNoToken says that [Options].GetToken gave none.
var ErrNoToken = errors.New("no token to connect with")

// tokens keeps the token in use.
type tokens struct {
	get func(ctx context.Context) (string, error) // nil: there is but one

	mu  sync.Mutex // guards what follows
	now string     // "": none yet, or none any more
}

// current gives the token in use.
func (t *tokens) current(ctx context.Context) (string, error) {
	t.mu.Lock()
	now := t.now
	t.mu.Unlock()
	if now != "" || t.get == nil {
		return now, nil
	}
	fresh, err := t.get(ctx)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoToken, err)
	}
	t.mu.Lock()
	t.now = fresh
	t.mu.Unlock()
	return fresh, nil
}

// drop has the next one ask for another token, if used is still the one in use;
// false if there is but one.
func (t *tokens) drop(used string) bool {
	if t.get == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now == used {
		t.now = ""
	}
	return true
}

// authorize adds the token in use, and gives it.
func (c *Client) authorize(ctx context.Context, h http.Header) (used string, err error) {
	if used, err = c.tokens.current(ctx); used != "" {
		h.Set("Authorization", "Bearer "+used)
	}
	return used, err
}

// refresh puts a new token in the place of one that ends soon. Where there is
// none, the connection ends with it.
func (k *socket) refresh(ctx context.Context, t *tokens) error {
	if !t.drop(k.token) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	fresh, err := t.current(ctx)
	if err != nil {
		return err
	}
	id := uint64(refreshID)
	command, err := json.Marshal(protocol.Command{ID: &id, Refresh: &protocol.RefreshCommand{Token: fresh}})
	if err != nil {
		return err
	}
	k.token = fresh
	return k.send(command)
}

// refreshID is the id of a socket's refreshes; its subscribe has 1.
const refreshID = 2
