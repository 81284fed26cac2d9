package main

import (
	"fmt"
	"runtime/debug"

	"github.com/urfave/cli/v2"

	"github.com/pushd/pushd/protocol"
	"github.com/pushd/pushd/protocol/client"
)

func topicsCommand() *cli.Command {
	return &cli.Command{
		Name: "topics", Usage: "list topics, or show one", ArgsUsage: "[TOPIC]",
		Flags: append(clientFlags(),
			&cli.StringFlag{Name: "prefix", Usage: "only topics that begin with `PREFIX`"},
			&cli.StringFlag{Name: "after", Usage: "only topics behind `NAME`, as the last page's next said"},
			&cli.IntFlag{Name: "limit", Value: 1000, Usage: "at most `N`"},
		),
		Action: withClient(1, runTopics),
		Subcommands: []*cli.Command{{
			Name: "rm", Usage: "delete a topic and all its events", ArgsUsage: "TOPIC", Flags: clientFlags(),
			Action: withClient(1, func(c *cli.Context, cl *client.Client, _ *printer) error {
				if c.Args().Len() != 1 {
					return &usage{"name the topic to delete", "pushd topics rm --help"}
				}
				return cl.DeleteTopic(c.Context, c.Args().First())
			}),
		}},
	}
}

// withClient is a command that asks a server, with at most so many arguments.
func withClient(most int, do func(*cli.Context, *client.Client, *printer) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if err := noArguments(c, most); err != nil {
			return err
		}
		p, err := newPrinter(c)
		if err != nil {
			return err
		}
		cl, err := newClient(c)
		if err != nil {
			return err
		}
		defer cl.Close()
		return do(c, cl, p)
	}
}

func runTopics(c *cli.Context, cl *client.Client, p *printer) error {
	var whole any
	var rows []protocol.TopicInfo
	if c.Args().Present() {
		info, err := cl.Topic(c.Context, c.Args().First())
		if err != nil {
			return err
		}
		whole, rows = info, []protocol.TopicInfo{info}
	} else {
		topics, err := cl.Topics(c.Context, c.String("prefix"), c.String("after"), c.Int("limit"))
		if err != nil {
			return err
		}
		whole, rows = topics, topics.Topics
		if topics.Next != "" {
			_, _ = fmt.Fprintf(c.App.ErrWriter, "pushd: there are more; go on with --after %s\n", topics.Next)
		}
	}
	return list(p, whole, rows, []string{"TOPIC", "PARTITION", "EVENTS", "FIRST", "LAST", "BYTES"}, func(t protocol.TopicInfo) []string {
		return []string{t.Topic, fmt.Sprint(t.Partition), fmt.Sprint(t.Events), fmt.Sprint(t.FirstOffset), fmt.Sprint(t.LastOffset), fmt.Sprint(t.Bytes)}
	})
}

func versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "print the version", Flags: []cli.Flag{outputFlag()},
		Action: func(c *cli.Context) error {
			p, err := newPrinter(c)
			if err != nil {
				return err
			}
			if p.format == "table" {
				_, err := fmt.Fprintln(c.App.Writer, "pushd", version())
				return err
			}
			return p.json(map[string]string{"version": version()})
		},
	}
}

// version is the module's, or the commit's where it was built from a checkout.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "dev"
	}
	return info.Main.Version
}

func completionCommand() *cli.Command {
	return &cli.Command{
		Name: "completion", Usage: "print a shell completion script", ArgsUsage: "bash|zsh|fish",
		Action: func(c *cli.Context) error {
			var script string
			switch c.Args().First() {
			case "bash":
				script = bashCompletion
			case "zsh":
				script = zshCompletion
			}
			if c.Args().First() == "fish" {
				text, err := c.App.ToFishCompletion()
				if err != nil {
					return err
				}
				script = text
			}
			if script == "" {
				return &usage{fmt.Sprintf("%q is not a shell that is known: bash, zsh or fish", c.Args().First()), "pushd completion --help"}
			}
			_, err := fmt.Fprintln(c.App.Writer, script)
			return err
		},
	}
}

const bashCompletion = `_pushd() {
	COMPREPLY=($(compgen -W "$("${COMP_WORDS[@]:0:COMP_CWORD}" --generate-bash-completion 2>/dev/null)" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _pushd pushd`

const zshCompletion = `#compdef pushd
_pushd() { compadd -- $("${words[@]:0:$((CURRENT-1))}" --generate-bash-completion 2>/dev/null) }
compdef _pushd pushd`
