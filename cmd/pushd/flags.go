package main

import (
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/pushd/pushd/protocol/client"
)

// clientFlags are what every command that talks to a server has.
func clientFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "server", Aliases: []string{"s"}, EnvVars: []string{"PUSHD_SERVER"}, Value: "http://127.0.0.1:7340", Usage: "base `URL`s, tried in turn, comma-separated"},
		&cli.StringFlag{Name: "token-file", Usage: "`FILE` with the token to send (or the environment's PUSHD_TOKEN)"},
		outputFlag(),
	}
}

func outputFlag() cli.Flag {
	return &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "table", Usage: "`FORMAT`: table, json or ndjson"}
}

func newClient(c *cli.Context) (*client.Client, error) {
	token := os.Getenv("PUSHD_TOKEN")
	if file := c.String("token-file"); file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, &usage{"--token-file: " + err.Error(), "pushd --help"}
		}
		token = strings.TrimSpace(string(text))
	}
	cl, err := client.New(client.Options{Servers: strings.Split(c.String("server"), ","), Token: token})
	if err != nil {
		return nil, &usage{"--server: " + err.Error(), "pushd --help"}
	}
	return cl, nil
}

// hoist puts flags before arguments, since the flag parser takes whatever
// stands behind an argument for data. "--" ends it, and "-" is an argument.
func hoist(app *cli.App, args []string) []string {
	if len(args) < 2 {
		return args
	}
	out := []string{args[0]}
	rest := args[1:]
	var flags, words []string
	var command *cli.Command
	commands := app.Commands
	for i := 0; i < len(rest); i++ {
		a := rest[i]
		switch {
		case a == "--":
			words = append(words, rest[i:]...)
			i = len(rest)
		case len(a) > 1 && a[0] == '-':
			flags = append(flags, a)
			if i+1 < len(rest) && takesValue(command, a) {
				i++
				flags = append(flags, rest[i])
			}
		default:
			if next := find(commands, a); next != nil && len(words) == 0 {
				out = append(out, a)
				command, commands = next, next.Subcommands
				continue
			}
			words = append(words, a)
		}
	}
	return append(append(out, flags...), words...)
}

func find(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

// takesValue says whether the next argument belongs to a flag.
func takesValue(command *cli.Command, arg string) bool {
	if command == nil || strings.Contains(arg, "=") {
		return false
	}
	name := strings.TrimLeft(arg, "-")
	for _, f := range command.Flags {
		if slices.Contains(f.Names(), name) {
			_, boolean := f.(*cli.BoolFlag)
			return !boolean
		}
	}
	return false
}

// inherit gives every command the same way of refusing.
func inherit(commands []*cli.Command) {
	for _, c := range commands {
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

func flagNames(command *cli.Command) (names []string) {
	if command == nil {
		return nil
	}
	for _, f := range command.Flags {
		names = append(names, f.Names()...)
	}
	return names
}

// didYouMean names the nearest candidate, if one is near.
func didYouMean(word string, candidates []string) string {
	best, least := "", len(word)/3+2
	for _, c := range candidates {
		if d := distance(word, c); d < least {
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
