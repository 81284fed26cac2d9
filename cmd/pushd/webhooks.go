package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/pushd/pushd/protocol"
	"github.com/pushd/pushd/protocol/client"
)

func webhooksCommand() *cli.Command {
	return &cli.Command{
		Name: "webhooks", Usage: "have events sent to HTTP endpoints",
		Flags: listWebhookFlags(), Action: withClient(0, listWebhooks),
		Subcommands: []*cli.Command{
			{Name: "ls", Usage: "list webhooks", Flags: listWebhookFlags(), Action: withClient(0, listWebhooks)},
			{
				Name: "add", Usage: "register an endpoint; prints its secret, once", ArgsUsage: "URL TOPIC…",
				Flags: append(append(clientFlags(), webhookFlags()...),
					&cli.StringFlag{Name: "after", Usage: "start `POSITION`: latest (default), earliest, a cursor, -N, @time or @10m"},
					&cli.StringFlag{Name: "secret", Usage: "sign with `SECRET`: whsec_… (HMAC) or whsk_… (Ed25519)"},
				),
				Action: withClient(1<<10, addWebhook),
			},
			webhookCommand("info", "show one webhook", nil, func(c *cli.Context, cl *client.Client, p *printer, id string) error {
				w, err := cl.Webhook(c.Context, id)
				return printWebhook(p, w, err)
			}),
			webhookCommand("update", "change what is named", append(webhookFlags(),
				&cli.StringFlag{Name: "url", Usage: "send to `URL`"},
				&cli.StringSliceFlag{Name: "topic", Usage: "`TOPIC` or pattern; may be given more than once"},
			), updateWebhook),
			webhookCommand("rm", "forget a webhook", nil, func(c *cli.Context, cl *client.Client, _ *printer, id string) error {
				return cl.DeleteWebhook(c.Context, id)
			}),
			webhookCommand("pause", "stop deliveries; events wait", nil, func(c *cli.Context, cl *client.Client, p *printer, id string) error {
				w, err := cl.PauseWebhook(c.Context, id)
				return printWebhook(p, w, err)
			}),
			webhookCommand("resume", "go on where deliveries were paused or disabled", nil, func(c *cli.Context, cl *client.Client, p *printer, id string) error {
				w, err := cl.ResumeWebhook(c.Context, id)
				return printWebhook(p, w, err)
			}),
			webhookCommand("test", "send a signed request that is no event", nil, testWebhook),
			webhookCommand("attempts", "list the newest requests", []cli.Flag{&cli.IntFlag{Name: "limit", Value: 20, Usage: "at most `N`"}}, listAttempts),
			webhookCommand("replay", "send again what was published behind a position", []cli.Flag{
				&cli.StringFlag{Name: "after", Usage: "start `POSITION`: earliest, a cursor, -N, @time or @10m"},
			}, func(c *cli.Context, cl *client.Client, p *printer, id string) error {
				w, err := cl.ReplayWebhook(c.Context, id, c.String("after"))
				return printWebhook(p, w, err)
			}),
			webhookCommand("rotate-secret", "sign with another secret; the old one signs beside it for a day", []cli.Flag{
				&cli.StringFlag{Name: "secret", Usage: "take `SECRET` (default: one is made)"},
			}, func(c *cli.Context, cl *client.Client, p *printer, id string) error {
				w, err := cl.RotateWebhookSecret(c.Context, id, c.String("secret"))
				return printWebhook(p, w, err)
			}),
			listenCommand(),
		},
	}
}

// webhookCommand is a command about one webhook.
func webhookCommand(name, usageText string, flags []cli.Flag, do func(*cli.Context, *client.Client, *printer, string) error) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usageText, ArgsUsage: "ID", Flags: append(clientFlags(), flags...),
		Action: withClient(1, func(c *cli.Context, cl *client.Client, p *printer) error {
			if !c.Args().Present() {
				return &usage{"name the webhook by its id, such as wh_…; 'pushd webhooks ls' lists them", helpFor(c)}
			}
			return do(c, cl, p, c.Args().First())
		}),
	}
}

func listWebhookFlags() []cli.Flag {
	return append(clientFlags(),
		&cli.StringFlag{Name: "after", Usage: "only those behind `ID`, as the last page's next said"},
		&cli.IntFlag{Name: "limit", Value: 100, Usage: "at most `N`"},
	)
}

// webhookFlags are what may be set when registering and later.
func webhookFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "type", Usage: "only events of `TYPE`; may be given more than once"},
		&cli.StringFlag{Name: "ordering", Usage: "`WORD`: parallel (default) or ordered, by topic"},
		&cli.StringFlag{Name: "format", Usage: "`WORD`: standard (default), cloudevents or envelope"},
		&cli.IntFlag{Name: "concurrency", Usage: "at most `N` requests at a time (default: 8)"},
		&cli.Float64Flag{Name: "rate", Usage: "at most `N` events per second"},
		&cli.StringSliceFlag{Name: "header", Usage: "send `NAME:VALUE` with each request; may be given more than once"},
		&cli.IntFlag{Name: "max-attempts", Usage: "give an event up behind `N` attempts (default: 24)"},
		&cli.StringFlag{Name: "max-age", Usage: "give an event up so `LONG` behind its first failure (default: 72h)"},
		&cli.StringFlag{Name: "description", Usage: "`TEXT` for people"},
	}
}

// webhookPatch is what the flags name.
func webhookPatch(c *cli.Context) (p protocol.WebhookPatch, err error) {
	for name, field := range map[string]**string{
		"url": &p.URL, "ordering": &p.Ordering, "format": &p.Format, "max-age": &p.MaxAge, "description": &p.Description,
	} {
		if c.IsSet(name) {
			*field = new(c.String(name))
		}
	}
	for name, field := range map[string]**int{"concurrency": &p.Concurrency, "max-attempts": &p.MaxAttempts} {
		if c.IsSet(name) {
			*field = new(c.Int(name))
		}
	}
	for name, field := range map[string]**[]string{"topic": &p.Topics, "type": &p.Types} {
		if c.IsSet(name) {
			*field = new(c.StringSlice(name))
		}
	}
	if c.IsSet("rate") {
		p.Rate = new(c.Float64("rate"))
	}
	if c.IsSet("header") {
		headers := map[string]string{}
		for _, line := range c.StringSlice("header") {
			name, value, ok := strings.Cut(line, ":")
			if !ok {
				return p, &usage{fmt.Sprintf("--header: %q is not NAME:VALUE", line), helpFor(c)}
			}
			headers[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
		p.Headers = &headers
	}
	return p, nil
}

func addWebhook(c *cli.Context, cl *client.Client, p *printer) error {
	if c.Args().Len() < 2 {
		return &usage{"name the URL and at least one topic or pattern, such as https://example.com/hook 'orders.**'", helpFor(c)}
	}
	patch, err := webhookPatch(c)
	if err != nil {
		return err
	}
	spec := protocol.WebhookSpec{URL: c.Args().First(), Topics: c.Args().Tail(), After: c.String("after"), Secret: c.String("secret")}
	patch.Apply(&spec)
	w, err := cl.AddWebhook(c.Context, spec)
	return printWebhook(p, w, err)
}

func updateWebhook(c *cli.Context, cl *client.Client, p *printer, id string) error {
	patch, err := webhookPatch(c)
	if err != nil {
		return err
	}
	w, err := cl.PatchWebhook(c.Context, id, patch)
	return printWebhook(p, w, err)
}

func listWebhooks(c *cli.Context, cl *client.Client, p *printer) error {
	all, err := cl.Webhooks(c.Context, c.String("after"), c.Int("limit"))
	if err != nil {
		return err
	}
	if all.Next != "" {
		_, _ = fmt.Fprintf(c.App.ErrWriter, "pushd: there are more; go on with --after %s\n", all.Next)
	}
	return printWebhooks(p, all, all.Webhooks)
}

func printWebhooks(p *printer, whole any, rows []protocol.Webhook) error {
	return list(p, whole, rows, []string{"ID", "STATE", "LAG", "OLDEST", "TOPICS", "URL"}, func(w protocol.Webhook) []string {
		return []string{w.ID, w.State, fmt.Sprint(w.Lag.Events), fmt.Sprintf("%.1fs", float64(w.Lag.OldestMS)/1000), strings.Join(w.Topics, " "), w.URL}
	})
}

// printWebhook shows one webhook: as a table, name and value a line, since it
// has more than fits into one.
func printWebhook(p *printer, w protocol.Webhook, err error) error {
	if err != nil {
		return err
	}
	rows := [][2]string{
		{"id", w.ID},
		{"url", w.URL},
		{"topics", strings.Join(w.Topics, " ")},
		{"types", strings.Join(w.Types, " ")},
		{"state", w.State},
		{"reason", w.StateReason},
		{"lag", fmt.Sprint(w.Lag.Events, " events, the oldest ", float64(w.Lag.OldestMS)/1000, " s old")},
		{"last error", w.LastError},
		{"ordering", w.Ordering},
		{"format", w.Format},
		{"concurrency", fmt.Sprint(w.Concurrency)},
		{"attempts", fmt.Sprintf("at most %d within %s", w.MaxAttempts, w.MaxAge)},
		{"description", w.Description},
		{"public key", w.PublicKey},
		{"secret", w.Secret},
	}
	if p.format != "table" {
		return p.json(w)
	}
	return list(p, nil, rows, []string{"WHAT", "VALUE"}, func(row [2]string) []string { return []string{row[0], orDash(row[1])} })
}

func testWebhook(c *cli.Context, cl *client.Client, p *printer, id string) error {
	t, err := cl.TestWebhook(c.Context, id)
	if err != nil {
		return err
	}
	err = list(p, t, []protocol.WebhookTest{t}, []string{"STATUS", "TOOK", "ERROR", "ANSWER"}, func(t protocol.WebhookTest) []string {
		return []string{statusOf(t.Status), fmt.Sprint(t.DurationMS, " ms"), orDash(t.Error), orDash(t.Body)}
	})
	if err == nil && !t.Delivered {
		return fmt.Errorf("the endpoint did not answer 2xx: %s", t.Error)
	}
	return err
}

func listAttempts(c *cli.Context, cl *client.Client, p *printer, id string) error {
	all, err := cl.WebhookAttempts(c.Context, id, c.Int("limit"))
	if err != nil {
		return err
	}
	return list(p, all, all.Attempts, []string{"TIME", "TOPIC", "OFFSET", "ATTEMPT", "STATUS", "TOOK", "ERROR"}, func(a protocol.WebhookAttempt) []string {
		return []string{
			a.Time.Format("15:04:05.000"), a.Topic, fmt.Sprint(a.Offset), fmt.Sprint(a.Attempt), statusOf(a.Status),
			fmt.Sprint(a.DurationMS, " ms"), orDash(a.Error),
		}
	})
}

func statusOf(status *int) string {
	if status == nil {
		return "-"
	}
	return fmt.Sprint(*status)
}
