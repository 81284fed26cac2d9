package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/pushd/pushd/protocol"
	"github.com/pushd/pushd/protocol/client"
)

func policiesCommand() *cli.Command {
	return &cli.Command{
		Name: "policies", Usage: "list, set and remove what topics may keep",
		Flags: clientFlags(), Action: withClient(0, listPolicies),
		Subcommands: []*cli.Command{
			{Name: "ls", Usage: "list the policies, the most specific first", Flags: clientFlags(), Action: withClient(0, listPolicies)},
			{
				Name: "set", Usage: "set a pattern's policy in whole; what is left out has its default", ArgsUsage: "PATTERN",
				Flags: append(clientFlags(),
					&cli.StringFlag{Name: "max-age", Usage: "keep events for so `LONG`, such as 72h (default: 24h)"},
					&cli.Uint64Flag{Name: "max-events", Usage: "keep `N` events of each topic (default: 10000)"},
					&cli.Uint64Flag{Name: "max-bytes", Usage: "keep `N` bytes of each topic (default: 67108864)"},
					&cli.StringFlag{Name: "presence", Usage: "`WORD`: off, on or log"},
				),
				Action: onPolicy(func(c *cli.Context, cl *client.Client, p *printer, pattern string) error {
					set, err := cl.PutPolicy(c.Context, protocol.Policy{
						Pattern: pattern, MaxAge: c.String("max-age"), MaxEvents: c.Uint64("max-events"), MaxBytes: c.Uint64("max-bytes"), Presence: c.String("presence"),
					})
					if err != nil {
						return err
					}
					return printPolicies(p, set, []protocol.Policy{set})
				}),
			},
			{
				Name: "rm", Usage: "remove a pattern's policy", ArgsUsage: "PATTERN", Flags: clientFlags(),
				Action: onPolicy(func(c *cli.Context, cl *client.Client, _ *printer, pattern string) error {
					return cl.DeletePolicy(c.Context, pattern)
				}),
			},
		},
	}
}

func onPolicy(do func(c *cli.Context, cl *client.Client, p *printer, pattern string) error) cli.ActionFunc {
	return withClient(1, func(c *cli.Context, cl *client.Client, p *printer) error {
		if !c.Args().Present() {
			return &usage{"name the topic or pattern, such as 'orders.**'", helpFor(c)}
		}
		return do(c, cl, p, c.Args().First())
	})
}

func listPolicies(c *cli.Context, cl *client.Client, p *printer) error {
	all, err := cl.Policies(c.Context)
	if err != nil {
		return err
	}
	return printPolicies(p, all, all.Policies)
}

func printPolicies(p *printer, whole any, rows []protocol.Policy) error {
	number := func(n uint64) string {
		if n == 0 {
			return "-"
		}
		return fmt.Sprint(n)
	}
	return list(p, whole, rows, []string{"PATTERN", "MAX AGE", "MAX EVENTS", "MAX BYTES", "PRESENCE"}, func(v protocol.Policy) []string {
		return []string{v.Pattern, orDash(v.MaxAge), number(v.MaxEvents), number(v.MaxBytes), orDash(v.Presence)}
	})
}
