package peers

import (
	"context"
	"fmt"
	"os/exec"
	"syscall"
	"testing"

	"github.com/pushd/pushd/integration/netns"
	"github.com/pushd/pushd/protocol"
	"github.com/pushd/pushd/protocol/client"
)

// pushdCluster is three pushd nodes as they are by default.
func pushdCluster(b *testing.B, net *netns.Net) *cluster {
	b.Helper()
	c := &cluster{name: "pushd"}
	var clients []*client.Client
	for i := range 3 {
		h, dir := net.AddHost(), b.TempDir()
		args := []string{"agent"}
		if i > 0 {
			args = append(args, "join", fmt.Sprint(c.nodes[0].host.Peer, ":7342"))
		}
		n := &node{b: b, name: fmt.Sprint("n", i+1), host: h, leave: func(n *node) { n.send(syscall.SIGTERM) }}
		args = append(args, "--node-name", n.name, "--data-dir", dir, "--insecure-no-auth", "--insecure-cluster",
			"--client-addr", fmt.Sprint(h.Client, ":7340"), "--peer-addr", fmt.Sprint(h.Peer, ":7341"), "--gossip-addr", fmt.Sprint(h.Peer, ":7342"))
		n.command = func() *exec.Cmd { return exec.Command(pushdBinary, args...) }
		n.start()
		b.Cleanup(n.kill)
		c.nodes = append(c.nodes, n)
		wait(b, "a pushd node", func() error { return getJSON(n.url()+"/readyz", nil) })
		client, err := client.New(client.Options{Servers: []string{n.url()}})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(client.Close)
		clients = append(clients, client)
	}
	c.publish = func(at int, n int64) error {
		_, err := clients[at].Publish(context.Background(), client.Message{Topic: failoverTopic, Data: payload, ContentType: "text/plain"})
		return err
	}
	c.leader = func(but *node) (string, error) {
		var t protocol.TopicInfo
		err := getJSON(c.nodeBut(but).url()+"/v1/topics/"+failoverTopic, &t)
		if err == nil && t.Leader == "" {
			err = errNone
		}
		return t.Leader, err
	}
	c.whole = c.allHaveAll
	if err := c.publish(0, 0); err != nil { // the topic has to be there
		b.Fatal(err)
	}
	return c
}

func (n *node) url() string { return fmt.Sprintf("http://%s:7340", n.host.Client) }

func (c *cluster) nodeBut(but *node) *node {
	if c.nodes[0] == but {
		return c.nodes[1]
	}
	return c.nodes[0]
}

// allHaveAll asks each pushd node whether it sees all the others, and all
// replicas as current.
func (c *cluster) allHaveAll() error {
	for _, n := range c.nodes {
		if err := getJSON(n.url()+"/readyz", nil); err != nil {
			return err
		}
		var s protocol.ClusterStatus
		if err := getJSON(n.url()+"/v1/cluster", &s); err != nil {
			return err
		}
		alive, current := 0, 0
		for _, other := range s.Nodes {
			if other.State == "alive" {
				alive++
			}
		}
		for _, p := range s.Partitions {
			for _, r := range p.Replicas {
				if r.Voter && r.Current && p.Leader != "" {
					current++
				}
			}
		}
		if alive != len(c.nodes) || current != len(c.nodes)*len(s.Partitions) || current == 0 {
			return fmt.Errorf("%s: %d nodes alive, %d replicas current", n.name, alive, current)
		}
	}
	return nil
}
