// Command pushd runs a node of the event-push server, and is its client.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/pushd/pushd/cmd/node"
	"github.com/pushd/pushd/protocol"
	"github.com/pushd/pushd/protocol/client"
)

// Exit codes, stable: scripts depend on them.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitNotFound    = 4
	exitDenied      = 5
	exitUnhealthy   = 6
	exitTimedOut    = 7
	exitDisk        = 8
)

func main() {
	if len(os.Args) > 1 && (os.Args[1] == "agent" || os.Args[1] == "dev") {
		relaxTimers()
	}
	os.Exit(run(os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program: what it is given, and its exit code.
func run(args []string, in io.Reader, out, talk io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // another signal ends the process at once
	app := newApp(in, out, talk)
	err := app.RunContext(ctx, hoist(app, args))
	if err == nil {
		return exitOK
	}
	if check, ok := errors.AsType[*checkFailed](err); ok {
		return check.code
	}
	for line := range strings.SplitSeq(explain(err), "\n") {
		_, _ = fmt.Fprintln(talk, "pushd: "+line)
	}
	return exitCode(err)
}

func newApp(in io.Reader, out, talk io.Writer) *cli.App {
	app := &cli.App{
		Name: "pushd", Usage: "push events to clients by polling, WebSocket, Server-Sent Events and webhooks",
		Description: `Try it:
   pushd dev                                 a throw-away node on this machine, with a console
   pushd subscribe hello                     follow a topic
   pushd publish hello 'hi'                  publish to it
   pushd agent                               a node that keeps its data in ./pushd-data
   pushd agent join 10.0.0.1:7342            another node of the same cluster`,
		Version: version(), Reader: in, Writer: out, ErrWriter: talk,
		EnableBashCompletion: true, Suggest: true, DisableSliceFlagSeparator: true,
		ExitErrHandler: func(*cli.Context, error) {}, // run decides
		OnUsageError:   usageError,
		Action:         func(c *cli.Context) error { return topLevel(c) },
		Commands: []*cli.Command{
			agentCommand(), devCommand(), publishCommand(), subscribeCommand(),
			topicsCommand(), presenceCommand(), policiesCommand(), webhooksCommand(), clusterCommand(), membersCommand("nodes"), partitionsCommand(),
			snapshotCommand(), checkCommand(), tokenCommand(), keygenCommand(), keyringCommand(), tlsCommand(),
			versionCommand(), completionCommand(),
		},
	}
	inherit(app.Commands)
	return app
}

// topLevel is pushd without a command, or with one that it does not have.
func topLevel(c *cli.Context) error {
	if c.Args().Len() == 0 {
		return cli.ShowAppHelp(c)
	}
	name := c.Args().First()
	return &usage{fmt.Sprintf("%q is no command%s", name, didYouMean(name, commandNames(c.App.Commands))), "pushd --help"}
}

// usage is a mistake in the command line.
type usage struct{ reason, help string }

func (u *usage) Error() string { return u.reason + "\nTry '" + u.help + "'." }

func usageError(c *cli.Context, err error, _ bool) error {
	scope := c.App.Commands
	if c.Command != nil && c.Command.Name != c.App.Name {
		scope = []*cli.Command{c.Command}
	}
	reason := err.Error()
	if name, ok := strings.CutPrefix(reason, "flag provided but not defined: "); ok {
		name = dashed(strings.TrimLeft(name, "-"))
		reason = "unknown flag " + name + didYouMean(name, append(flagNames(scope), "--help"))
	}
	return &usage{reason, helpFor(c)}
}

// helpFor is the command line that explains the command.
func helpFor(c *cli.Context) string {
	if c.Command == nil || c.Command.HelpName == "" {
		return "pushd --help"
	}
	return c.Command.HelpName + " --help"
}

// explain adds to an error what to do about it.
func explain(err error) string {
	text := err.Error()
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return text + "\nIf the server's certificate is signed by an authority of your own, name that with --ca-file or PUSHD_CA_FILE."
	}
	if protocol.CodeOf(err).Status() == http.StatusUnauthorized {
		text += "\nName a file with a token or an API key by --token-file, or put it into PUSHD_TOKEN; pushd token makes tokens."
	}
	if errors.Is(err, client.ErrUnreachable) {
		text += "\nIs it running? Start one with 'pushd dev', or name another with --server or PUSHD_SERVER."
	}
	return text
}

func exitCode(err error) int {
	if _, ok := errors.AsType[*usage](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[*node.ConfigError](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[cli.ExitCoder](err); ok {
		return exitUsage // the flag package's own: help on what is not there
	}
	if errors.Is(err, node.ErrDisk) {
		return exitDisk
	}
	switch protocol.CodeOf(err) {
	case protocol.NoSuchTopic, protocol.NoSuchRoute, protocol.NoSuchPolicy, protocol.NoSuchNode, protocol.NoSuchWebhook:
		return exitNotFound
	case protocol.Unauthorized, protocol.BadToken, protocol.TokenExpired, protocol.Forbidden, protocol.OriginNotAllowed, protocol.PresenceOff:
		return exitDenied
	case protocol.BadRequest, protocol.BadTopic, protocol.BadCursor, protocol.BadEventID, protocol.BadEventType, protocol.BadHeader, protocol.BadMember, protocol.BadInfo, protocol.BadContentType, protocol.TooManyTopics:
		return exitUsage
	case protocol.NoLeader, protocol.OutcomeUnknown, protocol.Overloaded, protocol.DiskFull, protocol.ShuttingDown:
		return exitUnhealthy
	case protocol.StoreTimeout:
		return exitTimedOut
	}
	switch {
	case errors.Is(err, client.ErrUnreachable):
		return exitUnreachable
	case errors.Is(err, errUnhealthy):
		return exitUnhealthy
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, errTimedOut):
		return exitTimedOut
	}
	return exitFailed
}

var errTimedOut = errors.New("the time was up before all was there")
