package peers

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"
)

// plan is how long a run takes.
type plan struct {
	rounds           int
	warm, span, idle time.Duration
}

// chosenPlan is short unless PUSHD_BENCH is long.
func chosenPlan() plan {
	if os.Getenv("PUSHD_BENCH") == "long" {
		return plan{rounds: 7, warm: time.Second, span: 5 * time.Second, idle: 40 * time.Second}
	}
	return plan{rounds: 3, warm: 300 * time.Millisecond, span: time.Second, idle: 5 * time.Second}
}

// BenchmarkBesideJetStream prints a table of pushd beside JetStream with its
// default and with sync_interval always: 1, 64 and 512 publishes in flight, over
// 1 and 8 partitions or streams.
func BenchmarkBesideJetStream(b *testing.B) {
	p := chosenPlan()
	for _, partitions := range []int{1, 8} {
		b.Run(fmt.Sprint(partitions), func(b *testing.B) { compare(b, p, partitions) })
	}
}

func compare(b *testing.B, p plan, partitions int) {
	systems := []*system{
		startPushd(b, partitions),
		startJetStream(b, "JetStream default", false, partitions),
		startJetStream(b, "JetStream always", true, partitions),
	}
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(out, "\n%d partitions or streams, %d rounds of %v, %d cores\n", partitions, p.rounds, p.span, runtime.NumCPU())
	head(out)
	for _, inFlight := range []int{1, 64, 512} {
		table(out, inFlight, systems, rounds(b, p, systems, inFlight))
	}
	for _, s := range systems {
		idle(b, out, s, p.idle)
	}
	_ = out.Flush()
}

// rounds measures each system in turn, and again.
func rounds(b *testing.B, p plan, systems []*system, inFlight int) [][]sample {
	b.Helper()
	samples := make([][]sample, len(systems))
	for range p.rounds {
		for i, s := range systems {
			syscall.Sync() // what one has left to write must not burden the next
			got, err := s.measure(inFlight, p.warm, p.span)
			if err != nil {
				b.Fatal(err)
			}
			samples[i] = append(samples[i], got)
		}
	}
	return samples
}

func head(out io.Writer) {
	fmt.Fprintln(out, "in flight\tsystem\tacked/s min\tmedian\tmax\tp50 ms\tp99 ms\tCPU s/million: nodes\tpublishers\tpushd: rate\tp50\tnodes' CPU")
}

// table prints a line for each system: its rate's spread, medians of the rest,
// and what pushd is in terms of it.
func table(out io.Writer, inFlight int, systems []*system, samples [][]sample) {
	own := middle(samples[0])
	for i, s := range systems {
		slices.SortFunc(samples[i], func(a, b sample) int { return cmp.Compare(a.rate, b.rate) })
		m := middle(samples[i])
		fmt.Fprintf(out, "%d\t%s\t%.0f\t%.0f\t%.0f\t%.2f\t%.2f\t%.1f\t%.1f\t%.2fx\t%.0f %%\t%.0f %%\n", inFlight, s.name,
			samples[i][0].rate, m.rate, samples[i][len(samples[i])-1].rate, m.p50, m.p99, m.nodes, m.publishers,
			own.rate/m.rate, 100*own.p50/m.p50, 100*own.nodes/m.nodes)
	}
}

// middle is the median of each figure by itself.
func middle(samples []sample) sample {
	median := func(of func(sample) float64) float64 {
		var list []float64
		for _, s := range samples {
			list = append(list, of(s))
		}
		slices.Sort(list)
		return list[len(list)/2]
	}
	return sample{
		rate: median(func(s sample) float64 { return s.rate }),
		p50:  median(func(s sample) float64 { return s.p50 }), p99: median(func(s sample) float64 { return s.p99 }),
		nodes:      median(func(s sample) float64 { return s.nodes }),
		publishers: median(func(s sample) float64 { return s.publishers }),
	}
}

// idle prints what a system costs that has nothing to do.
func idle(b *testing.B, out io.Writer, s *system, span time.Duration) {
	b.Helper()
	before, err := s.cpu()
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	<-time.After(span)
	after, err := s.cpu()
	if err != nil {
		b.Fatal(err)
	}
	fmt.Fprintf(out, "idle\t%s\t%.1f %% of one core over %v\n", s.name, 100*(after-before).Seconds()/time.Since(began).Seconds(), span)
}
