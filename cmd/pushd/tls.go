package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

func tlsCommand() *cli.Command {
	dir := &cli.StringFlag{Name: "dir", Value: ".", Usage: "`DIR` for the files"}
	days := func(most int) cli.Flag {
		return &cli.IntFlag{Name: "days", Value: most, Usage: "`N` days until the certificate ends"}
	}
	return &cli.Command{
		Name: "tls", Usage: "make certificates for the port that clients connect to",
		Description: `For clients of your own, which are told to trust ca.crt; what browsers of strangers
trust comes from a public authority. The ports between nodes need none of this: the
cluster's key is enough (pushd keygen). No file that is there is written over.`,
		Subcommands: []*cli.Command{
			{
				Name: "ca", Usage: "make an authority: ca.crt for clients to trust, and ca.key to keep away from all servers",
				Flags:  []cli.Flag{dir, days(maxDays), &cli.StringFlag{Name: "name", Value: "pushd", Usage: "`NAME` of the authority"}},
				Action: makeAuthority,
			},
			{
				Name: "cert", Usage: "make HOST.crt and HOST.key, good for all HOSTs (names or addresses), signed by --dir's authority",
				ArgsUsage: "HOST…", Flags: []cli.Flag{dir, days(397)}, Action: makeCertificate,
			},
		},
	}
}

func makeAuthority(c *cli.Context) error {
	days, err := daysOf(c)
	if err != nil {
		return err
	}
	if err := noArguments(c, 0); err != nil {
		return err
	}
	if name := c.String("name"); name == "" || len(name) > 64 {
		return &usage{"--name: 1 to 64 bytes are wanted", helpFor(c)}
	}
	cert, key, err := newAuthority(c.String("name"), days, time.Now())
	if err != nil {
		return err
	}
	return writePair(c, "ca", cert, key)
}

func makeCertificate(c *cli.Context) error {
	days, err := daysOf(c)
	if err != nil {
		return err
	}
	hosts := c.Args().Slice()
	if len(hosts) == 0 || len(hosts) > maxHosts {
		return &usage{fmt.Sprintf("name the hosts that clients connect to, 1 to %d of them, such as push.example.com 10.0.0.1", maxHosts), helpFor(c)}
	}
	for _, host := range hosts {
		if !validHost(host) {
			return &usage{fmt.Sprintf("%q is no host name or address (without scheme and port)", host), helpFor(c)}
		}
	}
	signer, err := loadAuthority(c)
	if err != nil {
		return err
	}
	cert, key, err := signer.certifyHosts(hosts, days, time.Now())
	if err != nil {
		return err
	}
	return writePair(c, strings.NewReplacer("*", "_", ":", "_").Replace(hosts[0]), cert, key)
}

func daysOf(c *cli.Context) (int, error) {
	days := c.Int("days")
	if days < 1 || days > maxDays {
		return 0, &usage{fmt.Sprintf("--days: %d is not 1 to %d", days, maxDays), helpFor(c)}
	}
	return days, nil
}

func loadAuthority(c *cli.Context) (authority, error) {
	certPath, keyPath := filepath.Join(c.String("dir"), "ca.crt"), filepath.Join(c.String("dir"), "ca.key")
	cert, err := os.ReadFile(certPath)
	if err != nil {
		return authority{}, &usage{err.Error() + "; make an authority with pushd tls ca, or name its --dir", helpFor(c)}
	}
	key, err := os.ReadFile(keyPath)
	if err != nil {
		return authority{}, &usage{err.Error() + "; certificates are made where the authority's key is", helpFor(c)}
	}
	a, err := parseAuthority(cert, key, time.Now())
	if err != nil {
		return authority{}, &usage{certPath + " and " + keyPath + ": " + err.Error(), helpFor(c)}
	}
	return a, nil
}

// writePair writes the key first: a certificate that is there has its key.
func writePair(c *cli.Context, name string, cert, key []byte) error {
	path := filepath.Join(c.String("dir"), name)
	if _, err := os.Stat(path + ".crt"); err == nil {
		return fmt.Errorf("%s.crt is there already; move it away, or name another --dir", path)
	}
	if err := writeNew(path+".key", key, 0o600); err != nil {
		return err
	}
	if err := writeNew(path+".crt", cert, 0o644); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c.App.Writer, "%s.crt\n%s.key\n", path, path)
	return err
}
