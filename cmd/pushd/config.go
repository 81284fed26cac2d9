package main

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/pushd/pushd/cmd/node"
)

// file is the configuration file: the agent's flags by the same names, with
// underscores. Unknown names are refused.
type file struct {
	NodeName        *string        `yaml:"node_name"`
	DataDir         *string        `yaml:"data_dir"`
	ClientAddr      *string        `yaml:"client_addr"`
	PeerAddr        *string        `yaml:"peer_addr"`
	GossipAddr      *string        `yaml:"gossip_addr"`
	Role            *string        `yaml:"role"`
	Zone            *string        `yaml:"zone"`
	PortOffset      *int           `yaml:"port_offset"`
	Partitions      *int           `yaml:"partitions"`
	Replicas        *int           `yaml:"replicas"`
	Join            *[]string      `yaml:"join"`
	MinFreeMiB      *int           `yaml:"min_free_mib"`
	TransferMiB     *int           `yaml:"transfer_mib"`
	ReplaceAfter    *time.Duration `yaml:"replace_after"`
	DrainTimeout    *time.Duration `yaml:"drain_timeout"`
	ClusterKeyFile  *string        `yaml:"cluster_key_file"`
	Limits          *limits        `yaml:"limits"`
	AllowOrigin     *[]string      `yaml:"allow_origin"`
	WSDeflate       *bool          `yaml:"ws_deflate"`
	ClientSocket    *string        `yaml:"client_socket"`
	TLSCertFile     *string        `yaml:"tls_cert_file"`
	TLSKeyFile      *string        `yaml:"tls_key_file"`
	ProxyProtocol   *bool          `yaml:"proxy_protocol"`
	TrustedProxies  *[]string      `yaml:"trusted_proxies"`
	InsecureNoAuth  *bool          `yaml:"insecure_no_auth"`
	InsecureCluster *bool          `yaml:"insecure_cluster"`

	AuthHS256KeyFile  *string `yaml:"auth_hs256_key_file"`
	AuthPublicKeyFile *string `yaml:"auth_public_key_file"`
	AuthJWKSURL       *string `yaml:"auth_jwks_url"`
	AuthIssuer        *string `yaml:"auth_issuer"`
	AuthAudience      *string `yaml:"auth_audience"`
	AuthKeysFile      *string `yaml:"auth_keys_file"`

	WebhookAllowPrivate *bool `yaml:"webhook_allow_private"`
	WebhookAllowHTTP    *bool `yaml:"webhook_allow_http"`
	WebhookNoVerify     *bool `yaml:"webhook_no_verify"`

	OTLPEndpoint *string `yaml:"otlp_endpoint"`
}

// limits are the flags of limitFlags, by the names of node.Limits.
type limits struct {
	Connections           int `yaml:"max_connections"`
	ConnectionsPerAddress int `yaml:"max_connections_per_address"`
	Readers               int `yaml:"max_readers"`

	FrameBytes        int           `yaml:"max_frame_bytes"`
	MessageBytes      int           `yaml:"max_message_bytes"`
	HandshakeTimeout  time.Duration `yaml:"handshake_timeout"`
	Subscriptions     int           `yaml:"max_subscriptions"`
	CommandsPerSecond int           `yaml:"max_commands_per_second"`
	StallTimeout      time.Duration `yaml:"stall_timeout"`
}

// loadConfig fills cfg from a file; "" is none.
func loadConfig(path string, cfg *node.Config) error {
	if path == "" {
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return &usage{"--config: " + err.Error(), "pushd agent --help"}
	}
	var f file
	if err := yaml.UnmarshalWithOptions(text, &f, yaml.Strict()); err != nil {
		return &usage{fmt.Sprintf("--config: %s%s\n%s", path, nearest(err.Error()), yaml.FormatError(err, false, true)), "pushd agent --help"}
	}
	from, to := reflect.ValueOf(f), reflect.ValueOf(cfg).Elem()
	for i := range from.NumField() {
		if v := from.Field(i); !v.IsNil() {
			field := to.FieldByName(from.Type().Field(i).Name)
			field.Set(v.Elem().Convert(field.Type()))
		}
	}
	return nil
}

// nearest suggests a setting for an unknown one.
func nearest(text string) string {
	_, rest, ok := strings.Cut(text, `unknown field "`)
	name, _, found := strings.Cut(rest, `"`)
	if !ok || !found {
		return ""
	}
	var names []string
	t := reflect.TypeFor[file]()
	for field := range t.Fields() {
		names = append(names, field.Tag.Get("yaml"))
	}
	return didYouMean(name, names)
}
