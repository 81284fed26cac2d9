package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/pushd/pushd/protocol"
	"github.com/pushd/pushd/protocol/client"
)

func presenceCommand() *cli.Command {
	return &cli.Command{
		Name: "presence", Usage: "list who is in a topic, or follow who comes and goes", ArgsUsage: "TOPIC",
		Description: "With --watch: a line for each who joins (+), leaves (-) or changes (~), first for those who are there (=);\nwith -o json or ndjson what the server sent. Who watches is no member. Ends on SIGINT and SIGTERM with 0.",
		Flags: append(clientFlags(),
			&cli.BoolFlag{Name: "watch", Aliases: []string{"w"}, Usage: "follow who comes and goes"},
			&cli.DurationFlag{Name: "timeout", Usage: "with --watch: end after this `TIME`"},
			&cli.BoolFlag{Name: "count", Usage: "print how many there are, and nothing else"},
			&cli.StringFlag{Name: "after", Usage: "only members behind `ID`, as the last page's next said"},
			&cli.IntFlag{Name: "limit", Value: protocol.MaxPageMembers, Usage: "at most `N`"},
		),
		Action: withClient(1, runPresence),
	}
}

func runPresence(c *cli.Context, cl *client.Client, p *printer) error {
	topic := c.Args().First()
	switch {
	case topic == "":
		return &usage{"name the topic", "pushd presence --help"}
	case c.Bool("watch"):
		return watchPresence(c, cl, p, topic)
	case c.Bool("count"):
		return countPresence(c, cl, p, topic)
	}
	whole, err := cl.Presence(c.Context, topic, c.String("after"), c.Int("limit"))
	if err != nil {
		return err
	}
	if whole.Next != "" {
		_, _ = fmt.Fprintf(c.App.ErrWriter, "pushd: there are %d in all; go on with --after %s\n", whole.Count, whole.Next)
	}
	return list(p, whole, whole.Members, []string{"MEMBER", "CONNECTIONS", "SINCE", "NODES", "INFO"}, func(m protocol.Member) []string {
		return []string{m.ID, fmt.Sprint(m.Connections), m.Since.Local().Format(time.DateTime), strings.Join(m.Nodes, ", "), string(m.Info)}
	})
}

func countPresence(c *cli.Context, cl *client.Client, p *printer, topic string) error {
	n, err := cl.PresenceCount(c.Context, topic)
	if err != nil {
		return err
	}
	if p.format == "table" {
		_, err := fmt.Fprintln(c.App.Writer, n)
		return err
	}
	return p.json(map[string]any{"topic": topic, "count": n})
}

func watchPresence(c *cli.Context, cl *client.Client, p *printer, topic string) error {
	sub, err := cl.Subscribe(client.SubscribeOptions{Topics: []string{topic}, Via: client.SSE, Presence: &client.Attend{Watch: true}})
	if err != nil {
		return &usage{err.Error(), "pushd presence --help"}
	}
	defer sub.Close()
	ctx, cancel := withTimeout(c)
	defer cancel()
	for {
		d, err := sub.Next(ctx)
		switch {
		case c.Context.Err() != nil, errors.Is(err, context.DeadlineExceeded):
			return nil
		case err != nil:
			return err
		case d.Presence == nil:
			continue
		}
		if err := printPresence(p, d.Presence); err != nil {
			return err
		}
	}
}

func printPresence(p *printer, change *protocol.Presence) error {
	if p.format != "table" {
		return p.json(change)
	}
	var lines strings.Builder
	for _, k := range []struct {
		sign string
		list []protocol.Member
	}{{"=", change.Members}, {"+", change.Joined}, {"-", change.Left}, {"~", change.Updated}} {
		for _, m := range k.list {
			fmt.Fprintf(&lines, "%s %s", k.sign, m.ID)
			if len(m.Info) > 0 {
				fmt.Fprintf(&lines, " %s", m.Info)
			}
			lines.WriteByte('\n')
		}
	}
	fmt.Fprintf(&lines, "  %d in %s\n", change.Count, change.Topic)
	_, err := fmt.Fprint(p.out, lines.String())
	return err
}
