package main

import (
	"github.com/urfave/cli/v2"

	"github.com/pushd/pushd/cmd/node"
)

func devCommand() *cli.Command {
	return &cli.Command{
		Name: "dev", Usage: "run a whole throw-away cluster in one process, with the console",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "n", Value: 1, Usage: "`N` nodes"},
			&cli.IntFlag{Name: "port-offset", Usage: "`N` added to the default ports"},
			&cli.StringFlag{Name: "log-level", Value: "warn", Usage: "`LEVEL`: debug, info, warn or error"},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c, 0); err != nil {
				return err
			}
			log, err := newLog(c)
			if err != nil {
				return err
			}
			return node.RunDev(c.Context, node.DevConfig{Nodes: c.Int("n"), Ports: c.Int("port-offset"), Out: c.App.Writer, Version: version(), Log: log})
		},
	}
}
