package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"
	"time"
)

func TestWhoTrustsTheAuthorityTrustsItsHosts(t *testing.T) {
	now := time.Now()
	caCert, caKey, err := newAuthority("test", maxDays, now)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := parseAuthority(caCert, caKey, now)
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := signer.certifyHosts([]string{"push.example.com", "10.0.0.1"}, 2*maxDays, now)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	if pair.Leaf.NotAfter.After(signer.cert.NotAfter) {
		t.Errorf("got a certificate until %v, want it to end with its authority", pair.Leaf.NotAfter)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(caCert)
	for host, want := range map[string]bool{"push.example.com": true, "10.0.0.1": true, "other.example.com": false} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host}); (err == nil) != want {
			t.Errorf("%s: got %v, want it trusted: %v", host, err, want)
		}
	}
}

func TestAnAuthorityIsRefusedThatCantSign(t *testing.T) {
	now := time.Now()
	cert, key, err := newAuthority("test", 1, now)
	if err != nil {
		t.Fatal(err)
	}
	_, otherKey, _ := newAuthority("other", 1, now)
	signer, _ := parseAuthority(cert, key, now)
	hostCert, hostKey, _ := signer.certifyHosts([]string{"h"}, 1, now)
	for name, c := range map[string]struct {
		cert, key []byte
		now       time.Time
	}{
		"another's key": {cert, otherKey, now},
		"a server's":    {hostCert, hostKey, now},
		"ended":         {cert, key, now.Add(48 * time.Hour)},
		"swapped":       {key, cert, now},
		"nothing":       {nil, nil, now},
	} {
		if _, err := parseAuthority(c.cert, c.key, c.now); !errors.Is(err, errNoAuthority) {
			t.Errorf("%s: got %v, want errNoAuthority", name, err)
		}
	}
}

func FuzzAuthority(f *testing.F) {
	cert, key, _ := newAuthority("test", 1, time.Now())
	f.Add(cert, key)
	f.Fuzz(func(t *testing.T, cert, key []byte) {
		if a, err := parseAuthority(cert, key, time.Now()); err == nil && (a.cert == nil || a.key == nil) {
			t.Errorf("got %+v without an error", a)
		}
	})
}

func TestHostsAreNamesOrAddressesAlone(t *testing.T) {
	for host, want := range map[string]bool{
		"push.example.com": true, "*.example.com": true, "localhost": true, "10.0.0.1": true, "::1": true,
		"": false, "*": false, "a.*.b": false, "https://x": false, "x:443": false, "-x": false, "../x": false, "a..b": false,
	} {
		if got := validHost(host); got != want {
			t.Errorf("%q: got %v, want %v", host, got, want)
		}
	}
}
