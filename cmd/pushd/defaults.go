package main

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// tellDefaults has the help of numbers and times say what their usage calls the
// default, not the zero that stands for it, and nothing for switches, which are off.
func tellDefaults(flags []cli.Flag) {
	for _, f := range flags {
		switch f := f.(type) {
		case *cli.BoolFlag:
			f.DisableDefaultText = true
		case *cli.IntFlag:
			f.Usage, f.DefaultText = cutDefault(f.Usage)
		case *cli.Uint64Flag:
			f.Usage, f.DefaultText = cutDefault(f.Usage)
		case *cli.DurationFlag:
			f.Usage, f.DefaultText = cutDefault(f.Usage)
		}
	}
}

// cutDefault cuts "(default: text)" off the end.
func cutDefault(usage string) (rest, text string) {
	rest, text, found := strings.Cut(usage, " (default: ")
	if !found || !strings.HasSuffix(text, ")") {
		return usage, ""
	}
	return rest, strings.TrimSuffix(text, ")")
}
