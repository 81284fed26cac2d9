package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/pushd/pushd/cmd/node"
)

func keygenCommand() *cli.Command {
	return &cli.Command{
		Name: "keygen", Usage: "make a key for the nodes of a cluster to share", ArgsUsage: "[FILE]",
		Description: "Prints the key, or puts it into FILE, before the keys that are there: nodes use the first and accept all.\n" +
			"To change the key of a running cluster: pushd keyring --help.",
		Action: func(c *cli.Context) error {
			if err := noArguments(c, 1); err != nil {
				return err
			}
			if file := c.Args().First(); file != "" {
				return node.AddClusterKey(file)
			}
			_, err := fmt.Fprintln(c.App.Writer, node.NewClusterKey())
			return err
		},
	}
}
