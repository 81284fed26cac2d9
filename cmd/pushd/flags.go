package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/pushd/pushd/protocol/client"
)

// search is how long a command looks for a server that was never there: long
// enough for one that is just being started, too short to look like a hang.
const search = 3 * time.Second

// completeFlag stands behind what a shell wants completed.
const completeFlag = "--generate-bash-completion"

// clientFlags are what every command that talks to a server has.
func clientFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "server", Aliases: []string{"s"}, EnvVars: []string{"PUSHD_SERVER"}, Value: "http://127.0.0.1:7340", Usage: "base `URL`s, tried in turn, comma-separated"},
		&cli.StringFlag{Name: "ca-file", EnvVars: []string{"PUSHD_CA_FILE"}, Usage: "PEM `FILE` with the certificates that https servers are trusted by (default: the system's)"},
		&cli.StringFlag{Name: "token-file", Usage: "`FILE` with the token or API key to send, read again when that ends (or the environment's PUSHD_TOKEN)"},
		outputFlag(),
	}
}

// textFlag is a setting of a node, which its environment can have, too.
func textFlag(name, env, usage string) cli.Flag {
	return &cli.StringFlag{Name: name, EnvVars: []string{"PUSHD_" + env}, Usage: usage}
}

// readSet takes over the flags that are set, by get, which is c's for their type.
func readSet[T any](c *cli.Context, get func(name string) T, fields map[string]*T) {
	for name, field := range fields {
		if c.IsSet(name) {
			*field = get(name)
		}
	}
}

func outputFlag() cli.Flag {
	return &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "table", Usage: "`FORMAT`: table, json or ndjson"}
}

func newClient(c *cli.Context) (*client.Client, error) {
	trusted, err := readTrusted(c)
	if err != nil {
		return nil, err
	}
	o := client.Options{Servers: strings.Split(c.String("server"), ","), Token: os.Getenv("PUSHD_TOKEN"), Search: search, TLS: trusted}
	if file := c.String("token-file"); file != "" {
		if o.Token, err = readToken(file); err != nil {
			return nil, &usage{"--token-file: " + err.Error(), helpFor(c)}
		}
		o.GetToken = func(context.Context) (string, error) { return readToken(file) } // whoever renews it does so in the file
	}
	cl, err := client.New(o)
	if err != nil {
		return nil, &usage{"--server: " + err.Error(), helpFor(c)}
	}
	return cl, nil
}

func readToken(file string) (string, error) {
	text, err := os.ReadFile(file)
	return strings.TrimSpace(string(text)), err
}

// readTrusted reads --ca-file; without it the system's roots are trusted.
func readTrusted(c *cli.Context) (*tls.Config, error) {
	file := c.String("ca-file")
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, &usage{"--ca-file: " + err.Error(), helpFor(c)}
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, &usage{"--ca-file: " + file + " has no certificate in PEM form", helpFor(c)}
	}
	return &tls.Config{RootCAs: pool}, nil
}

// hoist puts flags behind their command and before its arguments, since the
// flag parser takes whatever stands behind an argument for data. "--" ends the
// flags, and "-" is an argument.
func hoist(app *cli.App, args []string) []string {
	if len(args) < 2 {
		return args
	}
	out := []string{args[0]}
	rest := args[1:]
	var last []string
	if n := len(rest) - 1; rest[n] == completeFlag {
		rest, last = rest[:n], rest[n:] // it is known by its place
	}
	var flags, words []string
	commands, scope := app.Commands, app.Commands
	for i := 0; i < len(rest); i++ {
		a := rest[i]
		switch {
		case a == "--":
			flags = append(flags, a)
			words = append(words, rest[i+1:]...)
			i = len(rest)
		case len(a) > 1 && a[0] == '-':
			flags = append(flags, a)
			if i+1 < len(rest) && takesValue(scope, a) {
				i++
				flags = append(flags, rest[i])
			}
		default:
			if next := find(commands, a); next != nil && len(words) == 0 {
				out = append(out, a)
				scope, commands = []*cli.Command{next}, next.Subcommands
				continue
			}
			words = append(words, a)
		}
	}
	return slices.Concat(out, flags, words, last)
}

func find(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

// takesValue says whether the next argument belongs to a flag of one of the
// commands: before a command is named it may be any.
func takesValue(commands []*cli.Command, arg string) bool {
	name := strings.TrimLeft(arg, "-")
	for _, c := range commands {
		for _, f := range c.Flags {
			if slices.Contains(f.Names(), name) {
				_, boolean := f.(*cli.BoolFlag)
				return !boolean
			}
		}
	}
	return false
}

// inherit gives every command the same way of refusing and of telling defaults.
func inherit(commands []*cli.Command) {
	for _, c := range commands {
		tellDefaults(c.Flags)
		c.OnUsageError = usageError
		c.HideHelpCommand = true
		inherit(c.Subcommands)
	}
}

func commandNames(commands []*cli.Command) (names []string) {
	for _, c := range commands {
		names = append(names, c.Names()...)
	}
	return names
}

func flagNames(commands []*cli.Command) (names []string) {
	for _, c := range commands {
		for _, f := range c.Flags {
			for _, name := range f.Names() {
				names = append(names, dashed(name))
			}
		}
	}
	return names
}

// dashed is a flag as one types it.
func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// noArguments refuses what a command would not look at.
func noArguments(c *cli.Context, most int) error {
	if c.Args().Len() <= most {
		return nil
	}
	return &usage{fmt.Sprintf("%s does not know what to do with %q", c.Command.Name, c.Args().Get(most)), helpFor(c)}
}

// didYouMean names the nearest candidate, if one is near.
func didYouMean(word string, candidates []string) string {
	best, least := "", len(word)/3+2
	for _, c := range candidates {
		if d := distance(word, c); d < least && 2*d < len(strings.TrimLeft(c, "-")) {
			best, least = c, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
