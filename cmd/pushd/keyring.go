package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/pushd/pushd/cmd/node"
	"github.com/pushd/pushd/protocol/client"
)

func keyringCommand() *cli.Command {
	return &cli.Command{
		Name: "keyring", Usage: "change the key of a running cluster, by the files that its nodes read",
		Description: `Nodes use the first key of --cluster-key-file and accept all; they look at the file
every 5 seconds, and at once on SIGHUP. To go from one key to another, with nothing
refused, each step at all nodes (edit one file and copy it, or edit each) before the next:
  1. pushd keyring add FILE             then 'pushd keyring status' until all accept it
  2. pushd keyring use FILE NEW         then 'pushd keyring status' until all use it
  3. pushd keyring remove FILE OLD
Connections between nodes that were made before stay open; a rolling restart ends them.`,
		Subcommands: []*cli.Command{
			{Name: "ls", Usage: "name the keys of a file", ArgsUsage: "FILE", Flags: []cli.Flag{outputFlag()}, Action: listKeys},
			{Name: "add", Usage: "add a new key as the last one, or those of the file FROM (- is stdin)", ArgsUsage: "FILE [FROM]", Action: addKeys},
			{Name: "use", Usage: "make a key the first one", ArgsUsage: "FILE KEY", Action: changeKeyring(node.UseClusterKey)},
			{Name: "remove", Usage: "take a key out", ArgsUsage: "FILE KEY", Action: changeKeyring(node.RemoveClusterKey)},
			{Name: "status", Usage: "say which keys each node uses and accepts", Flags: clientFlags(), Action: withClient(0, keyringStatus)},
		},
	}
}

// heldKey is one key of a file.
type heldKey struct {
	Key  string `json:"key"` // its fingerprint
	Used bool   `json:"used"`
}

func listKeys(c *cli.Context) error {
	if c.Args().Len() != 1 {
		return &usage{"name the file of keys", helpFor(c)}
	}
	p, err := newPrinter(c)
	if err != nil {
		return err
	}
	names, err := node.ClusterKeys(c.Args().First())
	if err != nil {
		return err
	}
	var rows []heldKey
	for i, name := range names {
		rows = append(rows, heldKey{name, i == 0})
	}
	return list(p, rows, rows, []string{"KEY", "USE"}, func(k heldKey) []string {
		if k.Used {
			return []string{k.Key, "used"}
		}
		return []string{k.Key, "accepted"}
	})
}

func addKeys(c *cli.Context) error {
	if n := c.Args().Len(); n < 1 || n > 2 {
		return &usage{"name the file of keys, and perhaps one with those to add", helpFor(c)}
	}
	var more []byte
	var err error
	switch from := c.Args().Get(1); from {
	case "":
	case "-":
		more, err = io.ReadAll(io.LimitReader(c.App.Reader, 64<<10))
	default:
		more, err = os.ReadFile(from)
	}
	if err != nil {
		return &usage{err.Error(), helpFor(c)}
	}
	added, err := node.AcceptClusterKeys(c.Args().First(), more)
	for _, name := range added {
		_, _ = fmt.Fprintln(c.App.Writer, name)
	}
	return err
}

func changeKeyring(change func(path, fingerprint string) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if c.Args().Len() != 2 {
			return &usage{"name the file and the key, as pushd keyring ls shows it", helpFor(c)}
		}
		return change(c.Args().Get(0), c.Args().Get(1))
	}
}

// nodeKeys are the keys of one node.
type nodeKeys struct {
	Node string   `json:"node"`
	Keys []string `json:"keys"` // the one that it uses first
}

// keyringStatus shows nodes that are up; one that does not answer has no keys here.
func keyringStatus(c *cli.Context, cl *client.Client, p *printer) error {
	status, err := cl.Cluster(c.Context)
	if err != nil {
		return err
	}
	var rows []nodeKeys
	secured := false
	for _, n := range status.Nodes {
		if n.State == "alive" || n.State == "draining" {
			rows = append(rows, nodeKeys{n.Name, n.ClusterKeys})
			secured = secured || len(n.ClusterKeys) > 0
		}
	}
	if !secured {
		return errors.New("no node says that it has a cluster key; give them one with --cluster-key-file")
	}
	return list(p, rows, rows, []string{"NODE", "USES", "ACCEPTS TOO"}, func(n nodeKeys) []string {
		if len(n.Keys) == 0 {
			return []string{n.Node, "no answer", ""}
		}
		return []string{n.Node, n.Keys[0], strings.Join(n.Keys[1:], ", ")}
	})
}
