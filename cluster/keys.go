package cluster

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// Keys are the cluster's secrets, of 32 bytes each. Whoever has one is a member:
// gossip is encrypted with it, and nodes prove to each other that they have it by
// certificates of an authority that follows from it. The first is used, the
// others are accepted too, so that keys can be changed while the cluster runs.
type Keys [][]byte

// ErrBadKey says that a text holds no cluster keys.
var ErrBadKey = errors.New("not a cluster key")

// NewKey makes a key, as a line of text.
func NewKey() string {
	key := make([]byte, keyBytes)
	_, _ = rand.Read(key) // never fails
	return base64.StdEncoding.EncodeToString(key)
}

// ParseKeys reads keys, a line each; empty lines and those that begin with # do
// not count.
func ParseKeys(text []byte) (keys Keys, err error) {
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(key) != keyBytes || len(keys) == maxKeys {
			return nil, fmt.Errorf("%w: %d lines of %d bytes in base64 at most are wanted, as pushd keygen makes them", ErrBadKey, maxKeys, keyBytes)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: there is none", ErrBadKey)
	}
	return keys, nil
}

// derive makes a secret for one purpose of a key.
func derive(key []byte, purpose string) []byte {
	secret, err := hkdf.Key(sha256.New, key, nil, "pushd 1 "+purpose, keyBytes)
	if err != nil {
		panic("cluster: deriving a key: " + err.Error()) // lengths are constants
	}
	return secret
}

// TLS is how nodes talk to each other: both sides have to have a certificate of
// an authority that one of the keys makes.
func (k Keys) TLS() (*tls.Config, error) {
	pool := x509.NewCertPool()
	for _, key := range k {
		authority, _, err := authorityOf(key)
		if err != nil {
			return nil, err
		}
		pool.AddCert(authority)
	}
	own, err := issue(k[0])
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own}, ServerName: peerName,
		RootCAs: pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}, nil
}

// authorityOf is the certificate authority that follows from a key: the same at
// each node, so that nothing but the key has to be handed round.
func authorityOf(key []byte) (*x509.Certificate, ed25519.PrivateKey, error) {
	private := ed25519.NewKeyFromSeed(derive(key, "authority"))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "pushd cluster"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, fmt.Errorf("make the cluster's certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	return cert, private, err
}

// issue makes a certificate for this process. Clocks may differ, and the key is
// what counts, so that it has no end worth mentioning.
func issue(key []byte) (tls.Certificate, error) {
	authority, signer, err := authorityOf(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make this node's key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: peerName}, DNSNames: []string{peerName},
		NotBefore: time.Unix(0, 0), NotAfter: authority.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, authority, public, signer)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make this node's certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, nil
}

// keyTrouble says in words what memberlist means when keys differ, "" if it is
// about something else.
func keyTrouble(err error, own bool) string {
	text := err.Error()
	switch {
	case strings.Contains(text, "no installed keys could decrypt"):
		return "it has another cluster key than this node"
	case strings.Contains(text, "encryption is not configured"):
		return "it has a cluster key and this node has none; give this one the same with --cluster-key-file"
	case own && strings.HasSuffix(text, "EOF"):
		return "it hung up: it may have another cluster key than this node, or none"
	}
	return ""
}
