package peers

import (
	"fmt"
	"testing"
)

func BenchmarkThin(b *testing.B) {
	divide(b)
	p := chosenPlan()
	var servers []*server
	for _, peer := range []peer{pushdNode("pushd", ""), pushdNode("pushd json", "pushd.v1.json"), centrifugeLibrary(), natsCore(), floor()} {
		servers = append(servers, peer.start(b))
	}
	for _, l := range []load{
		{name: "1x1000 paced", kind: webSocket, readers: 1000, burst: 1, window: 1},
		{name: "1x1000 bursts of 10", kind: webSocket, readers: 1000, burst: 10, window: 10},
		{name: "1x1000 flood", kind: webSocket, readers: 1000, burst: 32, window: 64},
		{name: "1x9000 paced", kind: webSocket, readers: 9000, burst: 1, window: 1},
		{name: "9000x1 paced", kind: webSocket, readers: 9000, own: true, burst: 1, window: 1},
		{name: "9000x1 flood", kind: webSocket, readers: 9000, own: true, burst: 100, window: 1000},
	} {
		for range p.rounds {
			for _, s := range servers {
				d := l.measure(b, s, p.warm, p.span)
				fmt.Printf("%-20s %-12s cpu %.2f client %.2f rate %.0f p50 %.2f p99 %.2f connect %.1f\n", l.name, s.name, d.cpu, d.client, d.rate, d.p50, d.p99, d.connect)
			}
		}
	}
}
