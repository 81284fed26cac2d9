package peers

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
	"github.com/pushd/pushd/protocol/client"
)

// startPushd runs three nodes and waits until each partition has its replicas.
func startPushd(b *testing.B, partitions int) *system {
	b.Helper()
	s := &system{name: "pushd"}
	var publishers []*client.Publisher
	var first, join string
	for i := range 3 {
		addr, gossip := freeAddr(b), freeAddr(b)
		args := []string{"agent"}
		if i > 0 {
			args = append(args, "join", join)
		} else {
			first, join = addr, gossip
		}
		args = append(args, "--partitions", fmt.Sprint(partitions), "--node-name", fmt.Sprint("n", i+1), "--data-dir", b.TempDir(),
			"--client-addr", addr, "--peer-addr", freeAddr(b), "--gossip-addr", gossip)
		s.processes = append(s.processes, startProcess(b, nil, pushdBinary, args...))
		wait(b, "a pushd node", func() error { return getJSON("http://"+addr+"/readyz", nil) })
		c, err := client.New(client.Options{Servers: []string{"http://" + addr}})
		if err != nil {
			b.Fatal(err)
		}
		p := c.Publisher()
		b.Cleanup(p.Close)
		publishers = append(publishers, p)
	}
	wait(b, "three replicas of each partition", func() error { return replicated("http://"+first+"/v1/cluster", partitions) })
	s.publish = func(n int) error {
		m := client.Message{Topic: fmt.Sprintf("bench.%d.%d", n%partitions, n%topics), Data: payload, ContentType: "text/plain"}
		_, err := publishers[n%len(publishers)].Publish(context.Background(), m)
		return err
	}
	return s
}

// replicated says whether every partition has three voters and a leader.
func replicated(url string, partitions int) error {
	var s protocol.ClusterStatus
	if err := getJSON(url, &s); err != nil {
		return err
	}
	if len(s.Partitions) != partitions {
		return fmt.Errorf("%d partitions", len(s.Partitions))
	}
	for _, p := range s.Partitions {
		voters := 0
		for _, r := range p.Replicas {
			if r.Voter {
				voters++
			}
		}
		if voters != 3 || p.Leader == "" {
			return fmt.Errorf("partition %d has %d voters and leader %q", p.ID, voters, p.Leader)
		}
	}
	return nil
}

var httpClient = &http.Client{
	Timeout:   5 * time.Second,
	Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, // certificates are newCertificate's
}

func getJSON(url string, v any) error {
	resp, err := httpClient.Get(url)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	if v == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(v)
}

var payload = []byte(strings.Repeat("x", 256))
