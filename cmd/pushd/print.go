package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
)

// printer writes data in the format that was asked for. Tables are for people,
// json is the whole answer in one value, ndjson a line per row.
type printer struct {
	out    io.Writer
	format string
}

func newPrinter(c *cli.Context) (*printer, error) {
	format := c.String("output")
	switch format {
	case "table", "json", "ndjson":
		return &printer{c.App.Writer, format}, nil
	}
	return nil, &usage{fmt.Sprintf("--output: %q is not table, json or ndjson", format), helpFor(c)}
}

// list prints rows: whole is what json shows, rows what ndjson shows.
func list[T any](p *printer, whole any, rows []T, head []string, cells func(T) []string) error {
	switch p.format {
	case "json":
		return p.json(whole)
	case "ndjson":
		for _, row := range rows {
			if err := p.json(row); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, strings.Join(head, "\t"))
	for _, row := range rows {
		_, _ = fmt.Fprintln(w, strings.Join(cells(row), "\t"))
	}
	return w.Flush()
}

func (p *printer) json(v any) error {
	enc := json.NewEncoder(p.out)
	enc.SetEscapeHTML(false)
	if p.format == "json" {
		enc.SetIndent("", "  ")
	}
	return enc.Encode(v)
}
