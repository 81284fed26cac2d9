package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/pushd/pushd/protocol"
	"github.com/pushd/pushd/protocol/client"
)

const (
	listenBody  = 16 << 20         // of a request to pushd webhooks listen
	listenGrace = 5 * time.Second  // for its last answers, and for forgetting its webhook
	listenTimer = 30 * time.Second // for a request to arrive
)

func listenCommand() *cli.Command {
	return &cli.Command{
		Name: "listen", Usage: "be an endpoint: verify what comes, and print it", ArgsUsage: "[TOPIC…]",
		Description: "With topics, registers itself for them, and forgets that when it ends; the node must allow it\n" +
			"(pushd dev does; an agent with --webhook-allow-private --webhook-allow-http).\n" +
			"Without, prints the URL to register; give --secret to have signatures checked.",
		Flags: append(clientFlags(),
			&cli.IntFlag{Name: "port", Usage: "listen at 127.0.0.1:`N` (default: any free port)"},
			&cli.StringFlag{Name: "secret", Usage: "verify by `SECRET`: whsec_… or, for Ed25519, whpk_…"},
			&cli.IntFlag{Name: "status", Value: http.StatusOK, Usage: "answer with `STATUS`"},
			&cli.StringFlag{Name: "after", Usage: "with topics: start `POSITION`"},
			&cli.IntFlag{Name: "count", Usage: "end after `N` events (default: never)"},
		),
		Action: withClient(1<<10, runListen),
	}
}

// listener is the endpoint.
type listener struct {
	p      *printer
	status int
	done   context.CancelFunc
	left   int // events until the end; 0: without end

	mu     sync.Mutex // guards the output, what is left, and the secret
	secret string
}

func runListen(c *cli.Context, cl *client.Client, p *printer) error {
	socket, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", c.Int("port")))
	if err != nil {
		return fmt.Errorf("--port: %w", err)
	}
	ctx, cancel := context.WithCancel(c.Context)
	defer cancel()
	l := &listener{p: p, status: c.Int("status"), done: cancel, left: c.Int("count"), secret: c.String("secret")}
	server := &http.Server{Handler: l, ReadHeaderTimeout: listenTimer, ReadTimeout: listenTimer}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(socket) }()
	url := "http://" + socket.Addr().String() + "/"
	_, _ = fmt.Fprintf(c.App.ErrWriter, "pushd: listening at %s\n", url)
	forget, err := l.register(c, cl, url)
	if err == nil {
		select {
		case err = <-failed:
		case <-ctx.Done():
		}
	}
	rest, stop := context.WithTimeout(context.WithoutCancel(c.Context), listenGrace)
	defer stop()
	forget(rest)
	_ = server.Shutdown(rest)
	return err
}

// register has the topics' events sent here, until forget.
func (l *listener) register(c *cli.Context, cl *client.Client, url string) (forget func(context.Context), err error) {
	if !c.Args().Present() {
		return func(context.Context) {}, nil
	}
	l.mu.Lock() // what comes before the answer waits for the secret in it
	defer l.mu.Unlock()
	w, err := cl.AddWebhook(c.Context, protocol.WebhookSpec{
		URL: url, Topics: c.Args().Slice(), After: c.String("after"), Secret: c.String("secret"), Description: "pushd webhooks listen",
	})
	if err != nil {
		return func(context.Context) {}, err
	}
	if l.secret = w.Secret; w.PublicKey != "" {
		l.secret = w.PublicKey
	}
	_, _ = fmt.Fprintf(c.App.ErrWriter, "pushd: registered as %s\n", w.ID)
	return func(ctx context.Context) {
		if err := cl.DeleteWebhook(ctx, w.ID); err != nil {
			_, _ = fmt.Fprintf(c.App.ErrWriter, "pushd: %s stays registered (%v); remove it with 'pushd webhooks rm'\n", w.ID, err)
		}
	}, nil
}

// heard is one request, as it is printed.
type heard struct {
	ID       string          `json:"id"`
	Topic    string          `json:"topic,omitempty"`
	Offset   string          `json:"offset,omitempty"`
	Attempt  string          `json:"attempt,omitempty"`
	Verified *bool           `json:"verified"` // null: there is no secret to verify by
	Error    string          `json:"error,omitempty"`
	Type     string          `json:"content_type"`
	Data     json.RawMessage `json:"data"`
}

// ServeHTTP agrees to the handshake, and prints what is sent.
func (l *listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodOptions {
		w.Header().Set("WebHook-Allowed-Origin", "*")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, listenBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	h := heard{
		ID: r.Header.Get("Webhook-Id"), Topic: r.Header.Get("Pushd-Topic"), Offset: r.Header.Get("Pushd-Offset"),
		Attempt: r.Header.Get("Pushd-Attempt"), Type: r.Header.Get("Content-Type"), Data: body,
	}
	status := l.status
	if l.secret != "" {
		err := client.VerifyWebhook(l.secret, r.Header, body, time.Now())
		if h.Verified = new(err == nil); err != nil {
			h.Error, status = err.Error(), http.StatusUnauthorized
		}
	}
	w.WriteHeader(status)
	l.print(&h, body)
	if h.Topic == "" {
		return // a test, or a challenge
	}
	if l.left--; l.left == 0 {
		l.done()
	}
}

func (l *listener) print(h *heard, body []byte) {
	if l.p.format == "table" {
		mark := map[bool]string{true: "verified", false: "NOT VERIFIED"}[h.Verified != nil && *h.Verified]
		if h.Verified == nil {
			mark = "unverified"
		}
		_, _ = fmt.Fprintf(l.p.out, "%s %s %s#%s attempt %s: %s\n", mark, h.ID, orDash(h.Topic), orDash(h.Offset), orDash(h.Attempt), body)
		return
	}
	if !json.Valid(body) {
		h.Data, _ = json.Marshal(string(body)) // a string always can be
	}
	_ = l.p.json(h) // the reader of our output is gone: there is no one left to tell
}
