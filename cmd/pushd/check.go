package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/pushd/pushd/protocol/client"
)

// Exit codes of checks are those of Nagios plugins, not the command line's own.
const (
	checkOK       = 0
	checkWarning  = 1
	checkCritical = 2
	checkUnknown  = 3
)

// checkFailed ends a check with its code; its output has said the rest.
type checkFailed struct{ code int }

func (e *checkFailed) Error() string { return fmt.Sprintf("the check ended with %d", e.code) }

func checkCommand() *cli.Command {
	flags := append(clientFlags(), &cli.DurationFlag{Name: "timeout", Value: 10 * time.Second, Usage: "UNKNOWN after this `TIME`"})
	return &cli.Command{
		Name: "check", Usage: "checks for monitoring, with the exit codes of Nagios plugins",
		Description: "Prints one line. Exit codes: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.",
		Subcommands: []*cli.Command{
			{Name: "cluster", Usage: "all nodes up, all partitions led and replicated", Flags: flags, Action: withClient(0, checkCluster)},
			{Name: "node", Usage: "the node that is asked can serve any client", Flags: flags, Action: withClient(0, checkNode)},
		},
	}
}

func checkCluster(c *cli.Context, cl *client.Client, p *printer) error {
	ctx, cancel := withTimeout(c)
	defer cancel()
	s, err := cl.Cluster(ctx)
	if err != nil {
		return checked(p, checkUnknown, "CLUSTER", err.Error(), "")
	}
	h := healthOf(&s)
	code := checkOK
	switch {
	case h.Critical:
		code = checkCritical
	case !h.Healthy:
		code = checkWarning
	}
	figures := fmt.Sprintf("nodes=%d;;;0;%d led=%d;;;0;%d under_replicated=%d", h.NodesUp, h.Nodes, h.PartitionsLed, h.Partitions, h.UnderReplicated)
	return checked(p, code, "CLUSTER", strings.Join(append([]string{h.Summary}, h.Problems...), "; "), figures)
}

func checkNode(c *cli.Context, cl *client.Client, p *printer) error {
	ctx, cancel := withTimeout(c)
	defer cancel()
	began := time.Now()
	if err := cl.Ready(ctx); err != nil {
		return checked(p, checkCritical, "NODE", err.Error(), "")
	}
	return checked(p, checkOK, "NODE", "ready", fmt.Sprintf("time=%.6fs", time.Since(began).Seconds()))
}

// checked prints a check's line and gives its exit code.
func checked(p *printer, code int, what, text, figures string) error {
	word := []string{"OK", "WARNING", "CRITICAL", "UNKNOWN"}[code]
	var err error
	if p.format != "table" {
		err = p.json(map[string]any{"status": word, "code": code, "detail": text, "figures": figures})
	} else {
		line := "PUSHD " + what + " " + word + " - " + strings.ReplaceAll(text, "\n", " ")
		if figures != "" {
			line += " | " + figures
		}
		_, err = fmt.Fprintln(p.out, line)
	}
	if err == nil && code != checkOK {
		err = &checkFailed{code}
	}
	return err
}
