package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"strings"
	"time"
)

const (
	maxHosts      = 64
	maxHostBytes  = 253 // RFC 1035, section 2.3.4
	maxDays       = 3650
	hourAgo       = -time.Hour // certificates count from then: clocks differ
	day           = 24 * time.Hour
	keyBlockName  = "PRIVATE KEY"
	certBlockName = "CERTIFICATE"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// newAuthority makes an authority that signs hosts' certificates and nothing else.
func newAuthority(name string, days int, now time.Time) (cert, key []byte, err error) {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(hourAgo), NotAfter: now.Add(time.Duration(days) * day),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	return certify(template, authority{})
}

// certifyHosts makes a certificate that is good for a server of these names and
// addresses, no longer than its authority is.
func (a authority) certifyHosts(hosts []string, days int, now time.Time) (cert, key []byte, err error) {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: hosts[0]}, NotBefore: now.Add(hourAgo), NotAfter: now.Add(time.Duration(days) * day),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if len(hosts[0]) > 64 { // more than a common name may have; the names below are what counts
		template.Subject = pkix.Name{}
	}
	if template.NotAfter.After(a.cert.NotAfter) {
		template.NotAfter = a.cert.NotAfter
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	return certify(template, a)
}

// certify makes a key and its certificate, signed by itself if by has no key. Both
// are PEM. P-256 is what all browsers take.
func certify(template *x509.Certificate, by authority) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	if by.key == nil {
		by = authority{template, private}
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126)); err != nil {
		return nil, nil, fmt.Errorf("choose a serial number: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, private.Public(), by.key)
	if err != nil {
		return nil, nil, fmt.Errorf("sign the certificate: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: certBlockName, Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: keyBlockName, Bytes: secret}), nil
}

var errNoAuthority = errors.New("no certificate authority")

// parseAuthority reads what newAuthority made, or another authority's PEM files.
func parseAuthority(certText, keyText []byte, now time.Time) (authority, error) {
	certBlock, _ := pem.Decode(certText)
	keyBlock, _ := pem.Decode(keyText)
	if certBlock == nil || keyBlock == nil || certBlock.Type != certBlockName || keyBlock.Type != keyBlockName {
		return authority{}, fmt.Errorf("%w: a certificate and a PKCS #8 key in PEM are wanted, as pushd tls ca makes them", errNoAuthority)
	}
	cert, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		return authority{}, fmt.Errorf("%w: %w", errNoAuthority, err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return authority{}, fmt.Errorf("%w: %w", errNoAuthority, err)
	}
	signer, ok := parsed.(crypto.Signer)
	switch {
	case !cert.IsCA:
		return authority{}, fmt.Errorf("%w: the certificate is a server's", errNoAuthority)
	case now.After(cert.NotAfter):
		return authority{}, fmt.Errorf("%w: it ended on %s", errNoAuthority, cert.NotAfter.Format(time.DateOnly))
	case !ok || !samePublic(signer.Public(), cert.PublicKey):
		return authority{}, fmt.Errorf("%w: the key is not the certificate's", errNoAuthority)
	}
	return authority{cert, signer}, nil
}

func samePublic(a, b crypto.PublicKey) bool {
	comparable, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && comparable.Equal(b)
}

// validHost says whether a certificate may name it: an address, or a name whose
// first label may be *.
func validHost(host string) bool {
	if net.ParseIP(host) != nil {
		return true
	}
	if len(host) == 0 || len(host) > maxHostBytes {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimPrefix(host, "*."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.Trim(label, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return true
}

// writeNew never replaces a file: a key that is gone can't be brought back.
func writeNew(path string, text []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already; move it away, or name another --dir", path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}
