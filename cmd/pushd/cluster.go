package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/pushd/pushd/protocol"
	"github.com/pushd/pushd/protocol/client"
)

func clusterCommand() *cli.Command {
	return &cli.Command{
		Name: "cluster", Usage: "show how the cluster is, wait for it, take nodes out of it",
		Flags: clientFlags(), Action: withClient(0, showHealth),
		Subcommands: []*cli.Command{
			{Name: "status", Usage: "say whether the cluster is healthy, and what is not", Flags: clientFlags(), Action: withClient(0, showHealth)},
			membersCommand("members"),
			waitCommand(),
			removeCommand("rm", "have a node give its replicas away and leave for good; replace one that is down", false),
			removeCommand("force-leave", "remove a node that is down, and will not come back, for good", true),
			raftCommand(),
		},
	}
}

func membersCommand(name string) *cli.Command {
	return &cli.Command{Name: name, Usage: "list the cluster's nodes", Flags: clientFlags(), Action: withClient(0, listMembers)}
}

func listMembers(c *cli.Context, cl *client.Client, p *printer) error {
	s, err := cl.Cluster(c.Context)
	if err != nil {
		return err
	}
	leads, replicas := map[string]int{}, map[string]int{}
	for _, part := range s.Partitions {
		leads[part.Leader]++
		for _, r := range part.Replicas {
			replicas[r.Node]++
		}
	}
	head := []string{"NODE", "STATE", "ROLE", "CLIENTS", "PEERS", "GOSSIP", "LEADS", "REPLICAS", "ZONE", "VERSION"}
	return list(p, map[string]any{"nodes": s.Nodes}, s.Nodes, head, func(n protocol.NodeStatus) []string {
		return []string{n.Name, n.State, n.Role, n.ClientAddr, n.PeerAddr, n.GossipAddr, fmt.Sprint(leads[n.Name]), fmt.Sprint(replicas[n.Name]), orDash(n.Zone), n.Version}
	})
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// errUnhealthy ends a command whose output says already what is wrong.
var errUnhealthy = errors.New("the cluster is not healthy")

func showHealth(c *cli.Context, cl *client.Client, p *printer) error {
	s, err := cl.Cluster(c.Context)
	if err != nil {
		return err
	}
	h := healthOf(&s)
	if p.format != "table" {
		err = p.json(h)
	} else {
		_, err = fmt.Fprintln(p.out, strings.Join(append([]string{h.Summary}, h.Problems...), "\n  "))
	}
	if err == nil && !h.Healthy {
		return errUnhealthy
	}
	return err
}

// health is what an operator has to know of a cluster.
type health struct {
	Healthy         bool     `json:"healthy"`  // all partitions can be written to, and all nodes are up
	Critical        bool     `json:"critical"` // some partition, or the catalog, has no leader
	Summary         string   `json:"summary"`
	Problems        []string `json:"problems"`
	Nodes           int      `json:"nodes"`
	NodesUp         int      `json:"nodes_up"`
	Partitions      int      `json:"partitions"`
	PartitionsLed   int      `json:"partitions_led"`
	UnderReplicated int      `json:"under_replicated"` // partitions that lack voters
}

func healthOf(s *protocol.ClusterStatus) *health {
	h := &health{Problems: []string{}, Nodes: len(s.Nodes), Partitions: len(s.Partitions)}
	full, up := 0, map[string]bool{}
	for _, n := range s.Nodes {
		if n.Role != "edge" {
			full++
		}
		if n.State == "alive" || n.State == "draining" {
			h.NodesUp++
			up[n.Name] = true
			continue
		}
		why := "is down"
		if n.State == "left" {
			why = "has stopped on purpose"
		}
		h.Problems = append(h.Problems, fmt.Sprintf("node %s %s; start it again, or if it will not come back: pushd cluster rm %s", n.Name, why, n.Name))
	}
	if len(s.Partitions) == 0 {
		h.Critical = true
		h.Problems = append(h.Problems, "the node that was asked does not know its cluster's catalog yet")
	}
	if s.Meta.Leader == "" {
		h.Critical = true
		h.Problems = append(h.Problems, "the catalog has no leader; start more of the nodes that hold it: "+nodesOf(s.Meta.Replicas)+orRecover)
	}
	for _, part := range s.Partitions {
		h.look(part, min(full, 3), up)
	}
	h.Healthy = len(h.Problems) == 0
	word := "healthy"
	switch {
	case h.Critical:
		word = "critical"
	case !h.Healthy:
		word = "degraded"
	}
	h.Summary = fmt.Sprintf("%s: %d of %d nodes up, %d of %d partitions led, %d under-replicated", word, h.NodesUp, h.Nodes, h.PartitionsLed, h.Partitions, h.UnderReplicated)
	return h
}

// orRecover is what else to do where there is no leader.
const orRecover = "; if most of them are gone for good: pushd cluster raft recover --help"

// look adds what is wrong with a partition.
func (h *health) look(part protocol.PartitionStatus, want int, up map[string]bool) {
	votes := 0
	for _, r := range part.Replicas {
		if r.Voter && r.Current && up[r.Node] {
			votes++
		}
	}
	if part.Leader == "" {
		h.Critical = true
		h.Problems = append(h.Problems, fmt.Sprintf("partition %d has no leader, so it takes no events; it needs most of %s%s", part.ID, nodesOf(part.Replicas), orRecover))
	} else {
		h.PartitionsLed++
	}
	if votes < want {
		h.UnderReplicated++
		h.Problems = append(h.Problems, fmt.Sprintf("partition %d has %d of %d replicas that are up to date", part.ID, votes, want))
	}
}

func nodesOf(replicas []protocol.ReplicaStatus) string {
	var names []string
	for _, r := range replicas {
		names = append(names, r.Node)
	}
	return strings.Join(names, ", ")
}

func waitCommand() *cli.Command {
	return &cli.Command{
		Name: "wait", Usage: "wait until the cluster is healthy",
		Flags: append(clientFlags(),
			&cli.DurationFlag{Name: "timeout", Value: 5 * time.Minute, Usage: "give up after this `TIME`, with exit code 7"},
			&cli.IntFlag{Name: "nodes", Usage: "and until `N` nodes are up"},
		),
		Action: withClient(0, func(c *cli.Context, cl *client.Client, p *printer) error {
			ctx, cancel := withTimeout(c)
			defer cancel()
			tick := time.NewTicker(200 * time.Millisecond)
			defer tick.Stop()
			last := errTimedOut
			for {
				s, err := cl.Cluster(ctx)
				h := healthOf(&s)
				switch {
				case err == nil && h.Healthy && h.NodesUp >= c.Int("nodes"):
					return printSummary(p, h)
				case err == nil:
					last = fmt.Errorf("%w: %s", errTimedOut, strings.Join(append([]string{h.Summary}, h.Problems...), "\n  "))
				case ctx.Err() == nil:
					last = err
				}
				select {
				case <-ctx.Done():
					return last
				case <-tick.C:
				}
			}
		}),
	}
}

func printSummary(p *printer, h *health) error {
	if p.format != "table" {
		return p.json(h)
	}
	_, err := fmt.Fprintln(p.out, h.Summary)
	return err
}

func removeCommand(name, usageText string, force bool) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usageText, ArgsUsage: "NODE", Flags: clientFlags(),
		Action: withClient(1, func(c *cli.Context, cl *client.Client, p *printer) error {
			if !c.Args().Present() {
				return &usage{"name the node to remove, as pushd cluster members shows it", helpFor(c)}
			}
			return change(c, cl, p, protocol.ClusterChange{Kind: protocol.RemoveNode, Node: c.Args().First(), Force: force})
		}),
	}
}

// change asks for a change and prints what was decided.
func change(c *cli.Context, cl *client.Client, p *printer, what protocol.ClusterChange) error {
	changed, err := cl.Change(c.Context, what)
	if err != nil {
		return err
	}
	if p.format != "table" {
		return p.json(changed)
	}
	_, _ = fmt.Fprintln(c.App.ErrWriter, changed.Detail)
	if len(changed.Partitions) == 0 {
		return nil
	}
	return list(p, changed, changed.Partitions, []string{"PARTITION", "REPLICAS TO BE"}, func(t protocol.PartitionTarget) []string {
		return []string{fmt.Sprint(t.ID), strings.Join(t.Replicas, ", ")}
	})
}

func listPeers(c *cli.Context, cl *client.Client, p *printer) error {
	s, err := cl.Cluster(c.Context)
	if err != nil {
		return err
	}
	type peer struct {
		Group string `json:"group"`
		protocol.ReplicaStatus
		Leader bool `json:"leader"`
	}
	var rows []peer
	for _, r := range s.Meta.Replicas {
		rows = append(rows, peer{"catalog", r, r.Node == s.Meta.Leader})
	}
	for _, part := range s.Partitions {
		for _, r := range part.Replicas {
			rows = append(rows, peer{fmt.Sprint(part.ID), r, r.Node == part.Leader})
		}
	}
	return list(p, map[string]any{"peers": rows}, rows, []string{"GROUP", "NODE", "STATE", "POSITION", "LAG"}, func(r peer) []string {
		state := "learner"
		switch {
		case r.Leader:
			state = "leader"
		case r.Voter:
			state = "follower"
		}
		return []string{r.Group, r.Node, state, fmt.Sprint(r.Position), fmt.Sprintf("%d ms", r.LagMS)}
	})
}
