package peers

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/pushd/pushd/integration/netns"
)

// BenchmarkFailover prints for how long publishing at another node stands still
// when a leader is lost: pushd's beside JetStream's, in turn. Three rounds of
// each fault, or 30 if PUSHD_BENCH is long.
func BenchmarkFailover(b *testing.B) {
	if !runInside(b) {
		return
	}
	rounds := 3
	if os.Getenv("PUSHD_BENCH") == "long" {
		rounds = 30
	}
	net := netns.New(b)
	clusters := []*cluster{pushdCluster(b, net), jetStreamCluster(b, net)}
	for _, f := range faults {
		took := make([][]time.Duration, len(clusters))
		for range rounds {
			for i, c := range clusters {
				took[i] = append(took[i], c.standstill(b, net, f))
			}
		}
		out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintf(out, "\nleader lost\tsystem\trounds\tp50\tp90\tp99\tmax\tover 1 s\n")
		for i, c := range clusters {
			line(out, f.name, c.name, took[i])
		}
		_ = out.Flush()
	}
}

func line(out *tabwriter.Writer, fault, system string, took []time.Duration) {
	slices.Sort(took)
	over, _ := slices.BinarySearch(took, time.Second)
	n := len(took)
	at := func(part int) time.Duration { return took[min(n-1, n*part/100)].Round(time.Millisecond) }
	fmt.Fprintf(out, "%s\t%s\t%d\t%v\t%v\t%v\t%v\t%d\n", fault, system, n, at(50), at(90), at(99), took[n-1].Round(time.Millisecond), n-over)
}
