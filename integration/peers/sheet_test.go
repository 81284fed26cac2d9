package peers

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// goal is what pushd wants of a row: its figure, as a part of another's or by
// itself.
type goal struct {
	of   string // a peer, or best; empty: by itself
	most float64
	less bool // the other way round: at least so much
}

// best is the best of the peers, the floor aside.
const best = "the best"

// row is one figure of all peers.
type row struct {
	name   string
	more   bool // more is better
	goals  []goal
	values map[string][]float64
	tails  map[string][]float64 // of latencies, whose values are medians: the 99th percentiles
}

// sheet is a table of figures, printed as markdown.
type sheet struct {
	columns []string
	rows    []*row
}

// row finds or begins a row.
func (s *sheet) row(name string, more bool, goals ...goal) *row {
	for _, r := range s.rows {
		if r.name == name {
			return r
		}
	}
	r := &row{name: name, more: more, goals: goals, values: make(map[string][]float64), tails: make(map[string][]float64)}
	s.rows = append(s.rows, r)
	return r
}

func (r *row) add(column string, value float64) { r.values[column] = append(r.values[column], value) }

func (s *sheet) print(out io.Writer) {
	fmt.Fprintf(out, "\n| what | %s | %s is |\n|---|%s---|\n", strings.Join(s.columns, " | "), s.columns[0], strings.Repeat("---|", len(s.columns)))
	for _, r := range s.rows {
		fmt.Fprintf(out, "| %s |", r.name)
		for _, c := range s.columns {
			fmt.Fprintf(out, " %s |", cell(r.values[c], r.tails[c]))
		}
		fmt.Fprintf(out, " %s |\n", s.judge(r))
	}
}

// cell is the median, and what it lies between, or the tail's median.
func cell(values, tails []float64) string {
	if len(values) == 0 {
		return "–"
	}
	if len(tails) > 0 {
		return short(median(values)) + ", " + short(median(tails))
	}
	v := slices.Sorted(slices.Values(values))
	return fmt.Sprintf("%s (%s–%s)", short(median(values)), short(v[0]), short(v[len(v)-1]))
}

func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	return v[len(v)/2]
}

// thousands writes a count.
func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}

// short is a number in three digits.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.2f M", v/1e6)
	case v >= 1e5:
		return fmt.Sprintf("%.0f k", v/1e3)
	case v >= 1e4:
		return fmt.Sprintf("%.1f k", v/1e3)
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// judge says what pushd, the first column, is in parts of what it is to be
// compared with.
func (s *sheet) judge(r *row) string {
	var words []string
	own := r.values[s.columns[0]]
	for _, g := range r.goals {
		if len(own) == 0 {
			continue
		}
		if g.of == "" {
			words = append(words, fmt.Sprintf("%s (%s: %s)", short(median(own)), short(g.most), g.verdict(median(own))))
			continue
		}
		if name, other := s.other(r, g.of); name != "" {
			ratio := median(own) / other
			words = append(words, fmt.Sprintf("%.2fx %s (%.2f: %s)", ratio, name, g.most, g.verdict(ratio)))
		}
	}
	return strings.Join(words, ", ")
}

func (g goal) verdict(figure float64) string {
	if figure == g.most || g.less == (figure > g.most) {
		return "reached"
	}
	return "missed"
}

// other finds what a goal names, and its figure.
func (s *sheet) other(r *row, of string) (name string, figure float64) {
	for _, c := range s.columns {
		values := r.values[c]
		if len(values) == 0 || c != of && (of != best || strings.HasPrefix(c, s.columns[0]) || c == "floor") {
			continue
		}
		if m := median(values); name == "" || r.more == (m > figure) {
			name, figure = c, m
		}
	}
	return name, figure
}
