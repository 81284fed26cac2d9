package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/pushd/pushd/cmd/node"
)

func raftCommand() *cli.Command {
	return &cli.Command{
		Name: "raft", Usage: "show the Raft groups of catalog and partitions; have survivors carry on without a quorum",
		Flags: clientFlags(), Action: withClient(0, listPeers),
		Subcommands: []*cli.Command{
			{Name: "list-peers", Usage: "list the replicas of catalog and partitions", Flags: clientFlags(), Action: withClient(0, listPeers)},
			{
				Name: "inspect", Usage: "say what the data directory of a stopped node has; the JSON is for recover",
				Flags: []cli.Flag{dataDirFlag(), outputFlag()}, Action: inspect,
			},
			recoverCommand(),
		},
	}
}

func dataDirFlag() cli.Flag {
	return &cli.StringFlag{Name: "data-dir", EnvVars: []string{"PUSHD_DATA_DIR"}, Value: "pushd-data", Usage: "`DIR` of the stopped node's data"}
}

func recoverCommand() *cli.Command {
	return &cli.Command{
		Name: "recover", Usage: "have a stopped node carry on when most nodes are gone for good",
		Description: `For a cluster whose catalog or partitions have no leader because most of the nodes
that had their replicas are lost, and will not come back. While any of them may come back with
its data, start it instead: this gives them up, and events that only they had.

Run it on the data directory of each survivor, all stopped. Of more than one, give each what all
others have: pushd cluster raft inspect --data-dir DIR -o json > NAME.json, and --survivor NAME.json.
A replica that is damaged counts as none. Without --yes it says what it would do. Make a copy of the data directory first.

The cluster goes on under another id, and all topics in a new epoch: readers are told of a gap
(epoch_changed). Nodes that were given up are refused when they come back: move their data
directories away and have them join as new ones. Replicas then grow back by themselves.`,
		Flags: []cli.Flag{
			dataDirFlag(), outputFlag(),
			&cli.StringSliceFlag{Name: "survivor", Usage: "`FILE` that inspect wrote for another survivor; may be given more than once"},
			&cli.BoolFlag{Name: "recreate-lost", Usage: "have partitions that no survivor has begin anew, empty; and take replicas that are damaged for lost"},
			&cli.BoolFlag{Name: "yes", Usage: "do it"},
		},
		Action: recoverCluster,
	}
}

func inspect(c *cli.Context) error {
	p, err := newPrinter(c)
	if err != nil {
		return err
	}
	in, err := node.Inspect(c.String("data-dir"))
	if err != nil {
		return err
	}
	type row struct {
		Group string `json:"group"`
		node.Held
	}
	rows := []row{{"catalog", in.Catalog}}
	for i, held := range in.Partitions {
		rows = append(rows, row{fmt.Sprint(i), held})
	}
	names := map[string]string{}
	for _, n := range in.Nodes {
		names[n.ID] = n.Name
	}
	return list(p, in, rows, []string{"GROUP", "INDEX", "TERM", "NEWEST", "REPLICAS"}, func(r row) []string {
		if r.Damaged {
			return []string{r.Group, "-", "-", "-", "damaged: counts as none here"}
		}
		if r.Index == 0 {
			return []string{r.Group, "-", "-", "-", "none here"}
		}
		var replicas []string
		for _, id := range r.Replicas {
			replicas = append(replicas, cmp.Or(names[id], id))
		}
		return []string{r.Group, fmt.Sprint(r.Index), fmt.Sprint(r.Term), orNone(r.Newest), strings.Join(replicas, ", ")}
	})
}

func orNone(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return at.Format(time.RFC3339Nano)
}

func recoverCluster(c *cli.Context) error {
	p, err := newPrinter(c)
	if err != nil {
		return err
	}
	o := node.RecoverOptions{DataDir: c.String("data-dir"), RecreateLost: c.Bool("recreate-lost"), Yes: c.Bool("yes")}
	for _, path := range c.StringSlice("survivor") {
		in, err := readInspection(path)
		if err != nil {
			return err
		}
		o.Survivors = append(o.Survivors, in)
	}
	plan, err := node.Recover(o)
	if plan.ClusterID == "" {
		return err
	}
	if printed := printPlan(c, p, &plan, o.Yes && err == nil); printed != nil {
		return printed
	}
	if err == nil && !o.Yes {
		_, err = fmt.Fprintln(c.App.ErrWriter, "pushd: nothing was changed; to do this, add --yes")
	}
	return err
}

const maxInspectionBytes = 4 << 20

func readInspection(path string) (in node.Inspection, err error) {
	f, err := os.Open(path)
	if err == nil {
		err = json.NewDecoder(io.LimitReader(f, maxInspectionBytes)).Decode(&in)
		_ = f.Close()
	}
	if err == nil && in.ID == "" {
		err = errors.New("it names no node")
	}
	if err != nil {
		return in, fmt.Errorf("%s is not what pushd cluster raft inspect -o json writes: %w", path, err)
	}
	return in, nil
}

func printPlan(c *cli.Context, p *printer, plan *node.RecoveryPlan, done bool) error {
	err := list(p, plan, plan.Partitions, []string{"PARTITION", "FROM", "NEWEST EVENT", "STATE"}, func(r node.PartitionFrom) []string {
		if r.Lost {
			return []string{fmt.Sprint(r.Partition), "-", "-", "lost: begins anew on " + r.From.Name + ", empty"}
		}
		return []string{fmt.Sprint(r.Partition), r.From.Name, orNone(r.Newest), "kept"}
	})
	if err == nil {
		explainPlan(c.App.ErrWriter, plan, done)
	}
	return err
}

// explainPlan says what a recovery may cost, and what comes behind it.
func explainPlan(talk io.Writer, plan *node.RecoveryPlan, done bool) {
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(talk, "pushd: "+format+"\n", args...) }
	line("cluster %s carries on as %s with %s; the catalog is that of %s", plan.Was, plan.ClusterID, namesIn(plan.Survivors), plan.Catalog.Name)
	line("given up for good: %s", namesIn(plan.GivenUp))
	line("An acknowledged event is on two of three replicas, so events that were acknowledged while the survivor")
	line("was behind, cut off or down are missing: whatever came after the newest event above. How many can't be known.")
	line("Events that were never acknowledged may be there. Readers are told of a gap where their partition went on.")
	if len(plan.Lost) > 0 {
		line("All events of %d partitions are gone: %v", len(plan.Lost), plan.Lost)
	}
	if !done {
		return
	}
	line("done, and recorded in the data directory (recovery-*.json).")
	if len(plan.Survivors) > 1 {
		line("Recover the other survivors with the same files before any of them is started.")
	}
	line("Start the node as before. Have nodes that were given up join anew, each with an empty --data-dir.")
}

func namesIn(nodes []node.NodeName) string {
	if len(nodes) == 0 {
		return "nobody"
	}
	var names []string
	for _, n := range nodes {
		names = append(names, n.Name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
