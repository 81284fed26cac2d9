package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/pushd/pushd/protocol"
	"github.com/pushd/pushd/protocol/client"
)

func partitionsCommand() *cli.Command {
	return &cli.Command{
		Name: "partitions", Usage: "list the partitions, move their replicas and leaders",
		Flags: clientFlags(), Action: withClient(0, listPartitions),
		Subcommands: []*cli.Command{
			{Name: "ls", Usage: "list the partitions, their leaders and replicas", Flags: clientFlags(), Action: withClient(0, listPartitions)},
			{
				Name: "transfer", Usage: "have a node that has a replica lead the partition", ArgsUsage: "PARTITION NODE", Flags: clientFlags(),
				Action: onPartition(2, func(id uint16, nodes []string) protocol.ClusterChange {
					return protocol.ClusterChange{Kind: protocol.Transfer, Partition: id, To: nodes[0]}
				}),
			},
			{
				Name: "move", Usage: "give a node's replica of the partition to another node", ArgsUsage: "PARTITION FROM TO", Flags: clientFlags(),
				Action: onPartition(3, func(id uint16, nodes []string) protocol.ClusterChange {
					return protocol.ClusterChange{Kind: protocol.Move, Partition: id, From: nodes[0], To: nodes[1]}
				}),
			},
			{
				Name: "rebalance", Usage: "spread replicas and leaders evenly over the nodes; copies data", Flags: clientFlags(),
				Action: withClient(0, func(c *cli.Context, cl *client.Client, p *printer) error {
					return change(c, cl, p, protocol.ClusterChange{Kind: protocol.Rebalance})
				}),
			},
		},
	}
}

// onPartition is a command that changes one partition, with so many arguments of
// which the first is its number.
func onPartition(arguments int, what func(id uint16, nodes []string) protocol.ClusterChange) cli.ActionFunc {
	return withClient(arguments, func(c *cli.Context, cl *client.Client, p *printer) error {
		if c.Args().Len() != arguments {
			return &usage{fmt.Sprintf("%s wants %s", c.Command.Name, c.Command.ArgsUsage), helpFor(c)}
		}
		id, err := strconv.ParseUint(c.Args().First(), 10, 16)
		if err != nil {
			return &usage{fmt.Sprintf("%q is no partition's number", c.Args().First()), helpFor(c)}
		}
		return change(c, cl, p, what(uint16(id), c.Args().Tail()))
	})
}

func listPartitions(c *cli.Context, cl *client.Client, p *printer) error {
	s, err := cl.Cluster(c.Context)
	if err != nil {
		return err
	}
	return list(p, map[string]any{"partitions": s.Partitions}, s.Partitions, []string{"PARTITION", "LEADER", "REPLICAS", "POSITION"}, func(part protocol.PartitionStatus) []string {
		var names []string
		var position uint64
		for _, r := range part.Replicas {
			name := r.Node
			if !r.Voter {
				name += " (learner)"
			}
			names = append(names, name)
			position = max(position, r.Position)
		}
		return []string{fmt.Sprint(part.ID), orDash(part.Leader), strings.Join(names, ", "), fmt.Sprint(position)}
	})
}
