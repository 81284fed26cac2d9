package edge

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// certificateEvery is how often a certificate's files are looked at.
const certificateEvery = time.Second

// Certificate is a server's, in two PEM files. It is loaded anew when they
// change; while they can't be used, the one before stays.
type Certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	current           atomic.Pointer[tls.Certificate]
	looked            atomic.Int64   // when the files were looked at, in ns
	looking           atomic.Bool    // guards what follows: one handshake looks, others go on
	seen              [2]os.FileInfo // the files that were loaded
	complaint         string         // the last one in the log
}

// LoadCertificate reads a certificate, with those that it depends on behind it,
// and its key. What goes wrong later goes to log.
func LoadCertificate(certFile, keyFile string, log *slog.Logger) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile, log: log}
	c.looked.Store(time.Now().UnixNano())
	return c, c.load()
}

// TLS is a configuration that serves the certificate, over TLS 1.2 and 1.3, for
// HTTP/2 and HTTP/1.1. What is ready at once is one record, whatever its size.
func (c *Certificate) TLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, DynamicRecordSizingDisabled: true,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			c.look(time.Now())
			return c.current.Load(), nil
		},
	}
}

// look loads the files if they have changed, at most once in certificateEvery.
func (c *Certificate) look(now time.Time) {
	if now.UnixNano()-c.looked.Load() < int64(certificateEvery) || c.looking.Swap(true) {
		return
	}
	defer c.looking.Store(false)
	c.looked.Store(now.UnixNano())
	if found, err := c.files(); err == nil && unchanged(found[0], c.seen[0]) && unchanged(found[1], c.seen[1]) {
		return
	}
	err := c.load()
	switch {
	case err == nil:
		c.complaint = ""
		c.log.Info("the changed certificate is in use", "cert", c.certFile)
	case err.Error() != c.complaint: // it is tried again each time
		c.complaint = err.Error()
		c.log.Warn("the changed certificate can't be used; the one before stays", "err", err)
	}
}

// load looks at the files before it reads them: what changes in between is seen
// the next time.
func (c *Certificate) load() error {
	files, err := c.files()
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("load %s and %s: %w", c.certFile, c.keyFile, err)
	}
	c.current.Store(&pair)
	c.seen = files
	return nil
}

func (c *Certificate) files() (found [2]os.FileInfo, err error) {
	for i, name := range []string{c.certFile, c.keyFile} {
		if found[i], err = os.Stat(name); err != nil {
			return found, fmt.Errorf("look at a certificate's file: %w", err)
		}
	}
	return found, nil
}
