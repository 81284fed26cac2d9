package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/pushd/pushd/protocol"
	"github.com/pushd/pushd/protocol/client"
)

func leaveCommand() *cli.Command {
	return &cli.Command{
		Name: "leave", Usage: "have the running node give its replicas away, leave its cluster for good, and end",
		Description: "Waits until the node has ended. Its data directory is of no use afterwards.",
		Flags:       append(clientFlags(), &cli.DurationFlag{Name: "timeout", Value: 10 * time.Minute, Usage: "stop waiting after this `TIME`; the node goes on leaving"}),
		Action:      withClient(0, leave),
	}
}

// leave asks the node, and waits for it not to answer any more.
func leave(c *cli.Context, cl *client.Client, p *printer) error {
	ctx, cancel := withTimeout(c)
	defer cancel()
	changed, err := cl.Change(ctx, protocol.ClusterChange{Kind: protocol.LeaveItself})
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintln(c.App.ErrWriter, changed.Detail)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for left := false; !left; {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: the node still gives its replicas away; pushd cluster status says what is missing", errTimedOut)
		case <-tick.C:
		}
		_, err := cl.Cluster(ctx)
		left = errors.Is(err, client.ErrUnreachable)
	}
	if p.format != "table" {
		return p.json(map[string]bool{"left": true})
	}
	_, _ = fmt.Fprintln(c.App.ErrWriter, "the node has left and ended")
	return nil
}
