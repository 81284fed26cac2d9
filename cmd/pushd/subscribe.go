package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/pushd/pushd/protocol"
	"github.com/pushd/pushd/protocol/client"
)

func subscribeCommand() *cli.Command {
	return &cli.Command{
		Name: "subscribe", Aliases: []string{"sub"}, Usage: "follow topics and patterns",
		UsageText:   "pushd subscribe TOPIC… [--via ws|sse|longpoll|poll] [--after POSITION]",
		Description: "Prints payloads, a line each; with -o json or ndjson, envelopes. Ends on SIGINT and SIGTERM with 0.",
		Flags: append(clientFlags(),
			&cli.StringFlag{Name: "via", Value: "ws", Usage: "`SYSTEM`: ws, sse, longpoll or poll"},
			&cli.StringFlag{Name: "after", Value: "latest", Usage: "start `POSITION`: a cursor, earliest, latest, -N, @time or @10m"},
			&cli.StringFlag{Name: "member", Usage: "be present in the topics as `ID`"},
			&cli.StringFlag{Name: "on-gap", Usage: "error: end where events are gone"},
			&cli.IntFlag{Name: "count", Usage: "end after `N` events (default: never)"},
			&cli.DurationFlag{Name: "timeout", Usage: "end after this `TIME` (default: never)"},
			&cli.DurationFlag{Name: "every", Usage: "`TIME` between short polls that found nothing (default: 1s)"},
		),
		Action: runSubscribe,
	}
}

func runSubscribe(c *cli.Context) error {
	p, err := newPrinter(c)
	if err != nil {
		return err
	}
	if !c.Args().Present() {
		return &usage{"name at least one topic or pattern", "pushd subscribe --help"}
	}
	if g := c.String("on-gap"); g != "" && g != "error" {
		return &usage{fmt.Sprintf("--on-gap: %q is not error; leave it out to go on behind gaps", g), "pushd subscribe --help"}
	}
	cl, err := newClient(c)
	if err != nil {
		return err
	}
	defer cl.Close()
	var present *client.Attend
	if id := c.String("member"); id != "" {
		present = &client.Attend{Member: id}
	}
	sub, err := cl.Subscribe(client.SubscribeOptions{
		Presence: present,
		Topics:   c.Args().Slice(), After: c.String("after"), Via: client.Via(c.String("via")),
		OnGap: c.String("on-gap"), PollEvery: c.Duration("every"),
	})
	if err != nil {
		return &usage{err.Error(), "pushd subscribe --help"}
	}
	defer sub.Close()
	ctx, cancel := withTimeout(c)
	defer cancel()
	err = follow(ctx, c, sub, p)
	switch {
	case c.Context.Err() != nil:
		return nil // asked to end
	case errors.Is(err, context.DeadlineExceeded) && c.Int("count") > 0:
		return errTimedOut
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, client.ErrEnded):
		return nil
	}
	return err
}

// follow prints what comes until there are as many events as asked for.
func follow(ctx context.Context, c *cli.Context, sub *client.Subscription, p *printer) error {
	out := bufio.NewWriterSize(c.App.Writer, 64<<10)
	defer func() { _ = out.Flush() }()
	lines := &printer{out, p.format}
	for n := 0; ; {
		if !sub.Ready() {
			if err := out.Flush(); err != nil {
				return fmt.Errorf("write standard output: %w", err)
			}
		}
		d, err := sub.Next(ctx)
		if err != nil {
			return err
		}
		if d.Presence != nil {
			continue // pushd presence --watch is for that
		}
		if d.Gap != nil {
			_, _ = fmt.Fprintf(c.App.ErrWriter, "pushd: gap: events %d to %d of %s are gone (%s)\n", d.Gap.From, d.Gap.To, d.Gap.Topic, d.Gap.Reason)
			if p.format == "table" {
				continue
			}
			if err := lines.json(map[string]any{"gap": d.Gap}); err != nil {
				return err
			}
			continue
		}
		if err := printEvent(lines, d.Event); err != nil {
			return err
		}
		if n++; n == c.Int("count") {
			return nil
		}
	}
}

func printEvent(p *printer, v *protocol.Envelope) error {
	if p.format != "table" {
		return p.json(v)
	}
	e, err := v.Event()
	if err != nil {
		return err
	}
	_, err = p.out.Write(append(e.Data, '\n'))
	return err
}
