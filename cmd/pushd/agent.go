package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/pushd/pushd/cmd/node"
)

func agentCommand() *cli.Command {
	return &cli.Command{
		Name: "agent", Usage: "run a node; alone it is a cluster of one",
		UsageText: "pushd agent [flags]\npushd agent join ADDR… [flags]",
		Description: "Data is kept in --data-dir. A node with data comes back to its cluster by the same command line.\n" +
			"SIGTERM drains the node; it stays a member. A second signal ends it at once.",
		Flags:  agentFlags(),
		Action: runAgent,
		Subcommands: []*cli.Command{{
			Name: "join", Usage: "run a node of the cluster that any ADDR belongs to (gossip addresses, host:port)",
			ArgsUsage: "ADDR…", Flags: agentFlags(), Action: runAgent,
		}, leaveCommand()},
	}
}

func agentFlags() []cli.Flag {
	return append(append(limitFlags(), authFlags()...), []cli.Flag{
		&cli.StringFlag{Name: "config", EnvVars: []string{"PUSHD_CONFIG"}, Usage: "YAML `FILE` with the same settings"},
		textFlag("node-name", "NODE_NAME", "`NAME`, unique in the cluster (default: the host's name and the client port)"),
		textFlag("data-dir", "DATA_DIR", "`DIR` for the node's data (default: pushd-data)"),
		textFlag("client-addr", "CLIENT_ADDR", "`ADDR` for clients (default: 127.0.0.1:7340)"),
		textFlag("peer-addr", "PEER_ADDR", "`ADDR` for other nodes (default: 127.0.0.1:7341)"),
		textFlag("gossip-addr", "GOSSIP_ADDR", "`ADDR` for gossip, TCP and UDP (default: 127.0.0.1:7342)"),
		&cli.IntFlag{Name: "port-offset", EnvVars: []string{"PUSHD_PORT_OFFSET"}, Usage: "`N` added to the default ports"},
		&cli.StringSliceFlag{Name: "join", EnvVars: []string{"PUSHD_JOIN"}, Usage: "gossip `ADDR` of a member; may be given more than once"},
		textFlag("role", "ROLE", "`ROLE`: full (default) or edge, which holds no replicas"),
		textFlag("zone", "ZONE", "`ZONE`; replicas are spread over zones"),
		&cli.IntFlag{Name: "partitions", EnvVars: []string{"PUSHD_PARTITIONS"}, Usage: "`N` partitions, when this node founds a cluster (default: 8)"},
		&cli.IntFlag{Name: "replicas", EnvVars: []string{"PUSHD_REPLICAS"}, Usage: "`N` replicas of each partition (default: 3)"},
		&cli.IntFlag{Name: "min-free-mib", EnvVars: []string{"PUSHD_MIN_FREE_MIB"}, Usage: "`N` MiB free on the data disk below which no events are taken (default: a tenth of the disk, at most 2048)"},
		&cli.IntFlag{Name: "transfer-mib", EnvVars: []string{"PUSHD_TRANSFER_MIB"}, Usage: "`N` MiB a second at most that this node sends to replicas which lack history (default: 64)"},
		&cli.DurationFlag{Name: "replace-after", EnvVars: []string{"PUSHD_REPLACE_AFTER"}, Usage: "`TIME` after which a node that is away is replaced (default: 10m)"},
		&cli.DurationFlag{Name: "drain-timeout", EnvVars: []string{"PUSHD_DRAIN_TIMEOUT"}, Usage: "`TIME` from SIGTERM until clients that have not moved are cut (default: 25s)"},
		&cli.BoolFlag{Name: "ws-deflate", EnvVars: []string{"PUSHD_WS_DEFLATE"}, Usage: "compress what goes to WebSockets whose clients offer permessage-deflate"},
		&cli.BoolFlag{Name: "insecure-no-auth", EnvVars: []string{"PUSHD_INSECURE_NO_AUTH"}, Usage: "let everybody in, beyond this machine"},
		&cli.BoolFlag{Name: "insecure-cluster", EnvVars: []string{"PUSHD_INSECURE_CLUSTER"}, Usage: "let every host be a node, beyond this machine"},
		&cli.BoolFlag{Name: "webhook-allow-private", EnvVars: []string{"PUSHD_WEBHOOK_ALLOW_PRIVATE"}, Usage: "let webhooks go to any address, not just the open internet"},
		&cli.BoolFlag{Name: "webhook-allow-http", EnvVars: []string{"PUSHD_WEBHOOK_ALLOW_HTTP"}, Usage: "let webhooks go to http:// URLs"},
		&cli.BoolFlag{Name: "webhook-no-verify", EnvVars: []string{"PUSHD_WEBHOOK_NO_VERIFY"}, Usage: "send events without asking the endpoint first"},
		textFlag("cluster-key-file", "CLUSTER_KEY_FILE", "`FILE` with the key that all nodes share (pushd keygen); encrypts what they say to each other"),
		textFlag("otlp-endpoint", "OTLP_ENDPOINT", "`URL` of an OpenTelemetry collector that gets traces over HTTP (default: what OTEL_EXPORTER_OTLP_ENDPOINT says, else none)"),
		textFlag("tls-cert-file", "TLS_CERT_FILE", "PEM `FILE` with the certificate of --client-addr and its chain; loaded anew when it changes"),
		textFlag("tls-key-file", "TLS_KEY_FILE", "PEM `FILE` with the certificate's key"),
		&cli.BoolFlag{Name: "proxy-protocol", EnvVars: []string{"PUSHD_PROXY_PROTOCOL"}, Usage: "--client-addr is behind a proxy that sends PROXY headers; everything else is refused"},
		&cli.StringSliceFlag{Name: "trusted-proxies", EnvVars: []string{"PUSHD_TRUSTED_PROXIES"}, Usage: "`CIDR`s whose PROXY headers are believed, and X-Forwarded-For where addresses are limited (default: this machine's, with a loopback --client-addr)"},
		textFlag("client-socket", "CLIENT_SOCKET", "`PATH` of a Unix socket for clients, too"),
		textFlag("log-level", "LOG_LEVEL", "`LEVEL`: debug, info (default), warn or error"),
	}...)
}

func runAgent(c *cli.Context) error {
	if c.Command.Name == "agent" && c.Args().Present() {
		return &usage{fmt.Sprintf("agent takes no argument such as %q; to join a cluster: pushd agent join ADDR", c.Args().First()), "pushd agent --help"}
	}
	cfg := node.Config{Version: version()}
	if err := loadConfig(c.String("config"), &cfg); err != nil {
		return err
	}
	readSet(c, c.String, map[string]*string{
		"node-name": &cfg.NodeName, "data-dir": &cfg.DataDir, "client-addr": &cfg.ClientAddr, "peer-addr": &cfg.PeerAddr,
		"gossip-addr": &cfg.GossipAddr, "role": &cfg.Role, "zone": &cfg.Zone,
		"cluster-key-file": &cfg.ClusterKeyFile, "otlp-endpoint": &cfg.OTLPEndpoint,
		"client-socket": &cfg.ClientSocket, "tls-cert-file": &cfg.TLSCertFile, "tls-key-file": &cfg.TLSKeyFile,
	})
	readSet(c, c.Int, map[string]*int{
		"port-offset": &cfg.PortOffset, "partitions": &cfg.Partitions, "replicas": &cfg.Replicas, "min-free-mib": &cfg.MinFreeMiB, "transfer-mib": &cfg.TransferMiB,
	})
	readSet(c, c.Bool, map[string]*bool{
		"ws-deflate": &cfg.WSDeflate, "proxy-protocol": &cfg.ProxyProtocol, "insecure-no-auth": &cfg.InsecureNoAuth, "insecure-cluster": &cfg.InsecureCluster,
		"webhook-allow-private": &cfg.WebhookAllowPrivate, "webhook-allow-http": &cfg.WebhookAllowHTTP, "webhook-no-verify": &cfg.WebhookNoVerify,
	})
	readSet(c, c.Duration, map[string]*time.Duration{"replace-after": &cfg.ReplaceAfter, "drain-timeout": &cfg.DrainTimeout})
	if c.IsSet("trusted-proxies") {
		cfg.TrustedProxies = strings.Split(strings.Join(c.StringSlice("trusted-proxies"), ","), ",")
	}
	readLimits(c, &cfg.Limits)
	readAuth(c, &cfg)
	if joined := append(slices.Clone(c.StringSlice("join")), c.Args().Slice()...); len(joined) > 0 {
		cfg.Join = joined
	}
	if c.Command.Name == "join" && len(cfg.Join) == 0 {
		return &usage{"name at least one member's gossip address, such as 10.0.0.1:7342", "pushd agent join --help"}
	}
	log, err := newLog(c)
	if err != nil {
		return err
	}
	cfg.Log = log
	ctx, cancel := context.WithCancel(c.Context)
	var small sync.WaitGroup
	small.Go(func() { keepSmall(ctx) })
	defer small.Wait()
	defer cancel()
	return node.Run(ctx, cfg, nil)
}

// newLog writes text for people and JSON for machines.
func newLog(c *cli.Context) (*slog.Logger, error) {
	var level slog.Level
	if text := c.String("log-level"); text != "" {
		if err := level.UnmarshalText([]byte(text)); err != nil {
			return nil, &usage{fmt.Sprintf("--log-level: %q is not debug, info, warn or error", text), "pushd agent --help"}
		}
	}
	options := &slog.HandlerOptions{Level: level}
	if info, err := os.Stderr.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		return slog.New(slog.NewTextHandler(c.App.ErrWriter, options)), nil
	}
	return slog.New(slog.NewJSONHandler(c.App.ErrWriter, options)), nil
}
