package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/pushd/pushd/cluster"
	"github.com/pushd/pushd/edge"
)

// roleEdge nodes serve clients and hold no replicas.
const roleEdge = "edge"

// Limits are what clients may do.
type Limits = edge.Limits

// Config is what one node is told. The zero value, completed by its defaults,
// is a one-node cluster on loopback with its data in ./pushd-data.
type Config struct {
	NodeName   string   // unique in the cluster; "" means the host's name and the client port
	DataDir    string   // "" means ./pushd-data
	ClientAddr string   // where clients connect; "" means 127.0.0.1:7340
	PeerAddr   string   // where other nodes connect; "" means 127.0.0.1:7341
	GossipAddr string   // UDP and TCP; "" means 127.0.0.1:7342
	PortOffset int      // added to the three default ports and to no other
	Join       []string // gossip addresses of members; empty means found a cluster, or rejoin the one in DataDir
	Role       string   // "" means "full": replicas and clients
	Zone       string   // replicas are spread over zones
	Partitions int      // of a cluster that this node founds; 0 means 8
	Replicas   int      // of each partition; 0 means 3

	MinFreeMiB   int           // free MiB on the data disk below which no events are taken; 0 means a tenth of it, at most 2048
	TransferMiB  int           // MiB that this node sends in a second to replicas that lack history; 0 means 64
	ReplaceAfter time.Duration // a node that is away for longer is replaced; 0 means 10 min
	DrainTimeout time.Duration // from SIGTERM to the end of the last client; 0 means 25 s

	ClientSocket  string // path of a Unix socket for clients, beside ClientAddr; "" means none
	TLSCertFile   string // PEM, with the chain, of ClientAddr; "" means no TLS there
	TLSKeyFile    string // its key
	ProxyProtocol bool   // clients of ClientAddr come by a proxy that sends PROXY headers

	TrustedProxies []string // addresses and networks whose PROXY headers, and X-Forwarded-For, are believed; empty means this machine's PROXY headers, if ClientAddr is loopback

	ClusterKeyFile string // keys that nodes share, as pushd keygen makes them; "" means none

	AuthHS256KeyFile  string   // secrets that clients' HS256 tokens are signed with; "" means none
	AuthPublicKeyFile string   // PEM: keys that RS256, ES256 and EdDSA tokens are checked by; "" means none
	AuthJWKSURL       string   // an issuer's set of such keys; "" means none
	AuthIssuer        string   // iss that tokens must have; "" means any
	AuthAudience      string   // aud that tokens must have; "" means any
	AuthKeysFile      string   // API keys; "" means none
	AllowOrigin       []string // browser origins beside the node's own and localhost, as https://app.example.com; "*" means any, without cookies

	Limits    Limits // of clients
	WSDeflate bool   // compress WebSockets where clients offer permessage-deflate

	InsecureNoAuth  bool // serve clients beyond loopback without keys
	InsecureCluster bool // talk to nodes beyond loopback without keys

	WebhookAllowPrivate bool // webhooks may go to any address; for development
	WebhookAllowHTTP    bool // webhooks may go to http:// URLs
	WebhookNoVerify     bool // webhooks need no handshake before the first event

	OTLPEndpoint string // URL of an OpenTelemetry collector; "" means what OTEL_EXPORTER_OTLP_ENDPOINT says, else none

	// Protocols are the oldest and the newest version that this node speaks to others, as if it was of another release; zero means
	// those of this build.
	Protocols [2]uint8
	network   *network // nil: the operating system's

	Version string       // shown to other nodes and in answers
	Log     *slog.Logger // nil discards
}

// A ConfigError says which setting is wrong and what it may be.
type ConfigError struct{ Setting, Reason string }

func (e *ConfigError) Error() string { return "--" + e.Setting + ": " + e.Reason }

func (c Config) withDefaults() Config {
	c.DataDir = orElse(c.DataDir, "pushd-data")
	c.ClientAddr = orElse(c.ClientAddr, localPort(7340+c.PortOffset))
	c.PeerAddr = orElse(c.PeerAddr, localPort(7341+c.PortOffset))
	c.GossipAddr = orElse(c.GossipAddr, localPort(7342+c.PortOffset))
	c.Role = orElse(c.Role, "full")
	if c.ReplaceAfter == 0 {
		c.ReplaceAfter = defaultGrace
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = defaultDrain
	}
	c.Version = orElse(c.Version, "dev")
	if c.Partitions == 0 {
		c.Partitions = defaultPartitions
	}
	if c.Replicas == 0 {
		c.Replicas = defaultReplicas
	}
	if c.NodeName == "" {
		c.NodeName = defaultName(c.ClientAddr)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Check refuses settings that can't work, or that would open the node to
// strangers unasked.
func (c Config) Check() error {
	c = c.withDefaults()
	for _, a := range []struct{ setting, addr string }{{"client-addr", c.ClientAddr}, {"peer-addr", c.PeerAddr}, {"gossip-addr", c.GossipAddr}} {
		if err := checkAddr(a.addr); err != nil {
			return &ConfigError{a.setting, err.Error()}
		}
	}
	switch {
	case c.Partitions < 1 || c.Partitions > maxPartitions:
		return &ConfigError{"partitions", fmt.Sprintf("%d is not 1 to %d", c.Partitions, maxPartitions)}
	case c.Replicas < 1 || c.Replicas > maxReplicas:
		return &ConfigError{"replicas", fmt.Sprintf("%d is not 1 to %d", c.Replicas, maxReplicas)}
	case c.MinFreeMiB < 0:
		return &ConfigError{"min-free-mib", fmt.Sprintf("%d is not 0 or more", c.MinFreeMiB)}
	case c.TransferMiB < 0:
		return &ConfigError{"transfer-mib", fmt.Sprintf("%d is not 0 or more", c.TransferMiB)}
	case c.ReplaceAfter < minGrace:
		return &ConfigError{"replace-after", fmt.Sprintf("%v is below %v, which a restart may take", c.ReplaceAfter, minGrace)}
	case c.DrainTimeout < 0:
		return &ConfigError{"drain-timeout", fmt.Sprintf("%v is below zero", c.DrainTimeout)}
	case c.Role != "full" && c.Role != roleEdge:
		return &ConfigError{"role", fmt.Sprintf("%q is not full or edge", c.Role)}
	case !validName(c.NodeName):
		return &ConfigError{"node-name", fmt.Sprintf("%q is not 1 to %d of A-Z a-z 0-9 . _ -", c.NodeName, maxNameBytes)}
	case !c.InsecureCluster && c.ClusterKeyFile == "" && !(loopback(c.PeerAddr) && loopback(c.GossipAddr)):
		return &ConfigError{"peer-addr", "peer and gossip addresses beyond loopback are open to everybody without cluster keys; make a key with pushd keygen and give it to all nodes with --cluster-key-file, or say --insecure-cluster on a network you trust"}
	}
	if c.OTLPEndpoint != "" {
		if _, err := collectorURL(c.OTLPEndpoint, ""); err != nil {
			return &ConfigError{"otlp-endpoint", err.Error()}
		}
	}
	if err := c.checkClients(); err != nil {
		return err
	}
	if err := c.checkAuth(); err != nil {
		return err
	}
	if err := c.Limits.Check(); err != nil {
		return &ConfigError{"max-… and …-timeout", err.Error()}
	}
	_, err := c.keys()
	return err
}

// keys reads the cluster's keys, nil if there are none.
func (c Config) keys() (cluster.Keys, error) {
	if c.ClusterKeyFile == "" {
		return nil, nil
	}
	text, err := os.ReadFile(c.ClusterKeyFile)
	if err != nil {
		return nil, &ConfigError{"cluster-key-file", err.Error()}
	}
	keys, err := cluster.ParseKeys(text)
	if err != nil {
		return nil, &ConfigError{"cluster-key-file", c.ClusterKeyFile + ": " + err.Error()}
	}
	return keys, nil
}

func checkAddr(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT", addr)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q: the port must be 0 to 65535", addr)
	}
	if host == "" {
		return errors.New("name the host to listen on, such as 127.0.0.1")
	}
	return nil
}

// loopback says whether only this host can reach addr. A name counts as
// loopback only if it is localhost, since what others resolve to may change.
func loopback(addr string) bool {
	host, _, _ := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

func validName(s string) bool {
	return len(s) > 0 && len(s) <= maxNameBytes && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == ""
}

// defaultName keeps several nodes of one host apart by their client port.
func defaultName(clientAddr string) string {
	host, err := os.Hostname()
	if err != nil || !validName(host) || len(host) > maxNameBytes-8 {
		host = "node"
	}
	_, port, _ := net.SplitHostPort(clientAddr)
	return host + "-" + port
}

func localPort(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
