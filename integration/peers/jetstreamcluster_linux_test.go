package peers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushd/pushd/integration/netns"
)

// jetStreamCluster is three nats-servers as they are by default, with one stream
// of three replicas.
func jetStreamCluster(b *testing.B, net *netns.Net) *cluster {
	b.Helper()
	c := &cluster{name: "JetStream R3"}
	configs := make([]jetStreamNode, 3)
	var routes []string
	for i := range configs {
		h := net.AddHost()
		configs[i] = jetStreamNode{Name: fmt.Sprint("j", i+1), Dir: b.TempDir(), Client: fmt.Sprint(h.Client, ":4222"), Cluster: fmt.Sprint(h.Peer, ":6222")}
		routes = append(routes, configs[i].Cluster)
		c.nodes = append(c.nodes, &node{b: b, name: configs[i].Name, host: h, leave: func(n *node) { _, _ = fmt.Fprintln(n.stdin, lameDuck) }})
	}
	for i, n := range c.nodes {
		configs[i].Routes = routes
		config, err := json.Marshal(configs[i])
		if err != nil {
			b.Fatal(err)
		}
		n.command = func() *exec.Cmd {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(cmd.Environ(), jetStreamVariable+"="+string(config))
			return cmd
		}
		n.start()
		b.Cleanup(n.kill)
	}
	var clients []jetstream.JetStream
	for i := range configs {
		clients = append(clients, connectJetStream(b, configs[i].Client, nats.DontRandomize(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.IgnoreDiscoveredServers()))
	}
	stream := jetstream.StreamConfig{Name: "S0", Subjects: []string{"bench.0.>"}, Replicas: 3, Storage: jetstream.FileStorage}
	wait(b, "stream S0", func() error {
		_, err := clients[0].CreateOrUpdateStream(b.Context(), stream)
		return err
	})
	c.publish = func(at int, n int64) error { return publishUntil(clients[at], n) }
	info := func(at int) (*jetstream.StreamInfo, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		defer cancel()
		s, err := clients[at].Stream(ctx, stream.Name)
		if err != nil {
			return nil, err
		}
		return s.CachedInfo(), nil
	}
	c.leader = func(but *node) (string, error) {
		at := 0
		if c.nodes[0] == but {
			at = 1
		}
		i, err := info(at)
		return leaderIn(i, err)
	}
	c.whole = func() error {
		for at := range c.nodes {
			i, err := info(at)
			if _, err := leaderIn(i, err); err != nil || len(i.Cluster.Replicas) != 2 {
				return fmt.Errorf("%s does not know its two others: %w", c.nodes[at].name, errors.Join(err, errNone))
			}
			for _, r := range i.Cluster.Replicas {
				if !r.Current || r.Offline {
					return fmt.Errorf("%s is not current", r.Name)
				}
			}
		}
		return nil
	}
	return c
}

func leaderIn(i *jetstream.StreamInfo, err error) (string, error) {
	switch {
	case err != nil:
		return "", err
	case i.Cluster == nil || i.Cluster.Leader == "":
		return "", errNone
	}
	return i.Cluster.Leader, nil
}

// publishUntil tries an event under one id until it is acknowledged: again at
// once if nobody is there to take it, after a quarter of a second if nobody
// answers.
func publishUntil(js jetstream.JetStream, n int64) error {
	deadline := time.Now().Add(time.Minute)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 250*time.Millisecond)
		_, err := js.PublishMsg(ctx, &nats.Msg{Subject: failoverTopic, Data: payload}, jetstream.WithMsgID(fmt.Sprint("event-", n)), jetstream.WithRetryAttempts(0))
		cancel()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("event %d: %w", n, err)
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			<-time.After(paced)
		}
	}
}
