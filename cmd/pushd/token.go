package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/pushd/pushd/cmd/node"
	"github.com/pushd/pushd/protocol"
)

func tokenCommand() *cli.Command {
	return &cli.Command{
		Name: "token", Usage: "make a token for a client, or an API key for a server",
		Description: `A token is signed by the first secret of --auth-hs256-key-file, and printed:
   pushd keygen auth.key
   pushd agent --auth-hs256-key-file auth.key
   pushd token --auth-hs256-key-file auth.key --sub ann --cap 'chat.**=sub,pub,hist,pres' --ttl 1h
An API key does not expire unless told to, and ends when its line is taken out of the file, which
has only its hash:
   pushd token --api-key --auth-keys-file keys.jsonl --sub billing --cap 'orders.**=pub'
Rights: sub reads what is new, hist what was before, pub publishes, pres sees who is there, and
admin operates the server by topics such as $cluster or $webhooks ($** is all of them).`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "sub", Usage: "`NAME` of whom it is for"},
			&cli.StringSliceFlag{Name: "cap", Usage: "`PATTERN=right,…` or the JSON of a whole cap; may be given more than once"},
			&cli.DurationFlag{Name: "ttl", Value: time.Hour, Usage: "`TIME` until it expires; an API key: never, unless given"},
			&cli.StringFlag{Name: "info", Usage: "`JSON` that its member's info is"},
			&cli.StringFlag{Name: "iss", EnvVars: []string{"PUSHD_AUTH_ISSUER"}, Usage: "`NAME` of the issuer"},
			&cli.StringFlag{Name: "aud", EnvVars: []string{"PUSHD_AUTH_AUDIENCE"}, Usage: "`NAME` of the audience"},
			&cli.StringFlag{Name: "auth-hs256-key-file", Aliases: []string{"key-file"}, EnvVars: []string{"PUSHD_AUTH_HS256_KEY_FILE"}, Usage: "`FILE` with the node's secrets"},
			&cli.BoolFlag{Name: "api-key", Usage: "make an API key"},
			&cli.StringFlag{Name: "auth-keys-file", Aliases: []string{"keys-file"}, EnvVars: []string{"PUSHD_AUTH_KEYS_FILE"}, Usage: "`FILE` of the node's API keys, to add it to"},
		},
		Action: makeToken,
	}
}

func makeToken(c *cli.Context) error {
	if err := noArguments(c, 0); err != nil {
		return err
	}
	caps, err := parseCaps(c.StringSlice("cap"))
	if err != nil {
		return &usage{"--cap: " + err.Error(), helpFor(c)}
	}
	var made string
	if c.Bool("api-key") {
		made, err = makeAPIKey(c, caps)
	} else {
		made, err = signToken(c, caps)
	}
	if protocol.CodeOf(err) == protocol.BadToken {
		return &usage{err.Error(), helpFor(c)}
	}
	if err == nil {
		_, err = fmt.Fprintln(c.App.Writer, made)
	}
	return err
}

func signToken(c *cli.Context, caps map[string][]string) (string, error) {
	file := c.String("auth-hs256-key-file")
	switch {
	case file == "":
		return "", &usage{"name the file with the node's secrets with --auth-hs256-key-file; pushd keygen FILE makes one", helpFor(c)}
	case c.Duration("ttl") <= 0:
		return "", &usage{"--ttl: a time above zero is wanted, such as 1h", helpFor(c)}
	}
	return node.SignToken(file, node.TokenSpec{
		Subject: c.String("sub"), Cap: caps, Info: json.RawMessage(c.String("info")),
		Issuer: c.String("iss"), Audience: c.String("aud"), Lifetime: c.Duration("ttl"),
	})
}

func makeAPIKey(c *cli.Context, caps map[string][]string) (string, error) {
	file := c.String("auth-keys-file")
	switch {
	case file == "":
		return "", &usage{"name the file of the node's API keys with --auth-keys-file; it is made if need be", helpFor(c)}
	case c.String("sub") == "":
		return "", &usage{"name whom the key is for with --sub", helpFor(c)}
	}
	var expires *time.Time
	if c.IsSet("ttl") {
		at := time.Now().Add(c.Duration("ttl")).UTC().Truncate(time.Second)
		expires = &at
	}
	return node.NewAPIKey(file, c.String("sub"), caps, expires)
}

// parseCaps reads what stands behind --cap.
func parseCaps(list []string) (map[string][]string, error) {
	caps := map[string][]string{}
	for _, text := range list {
		if strings.HasPrefix(strings.TrimSpace(text), "{") {
			if err := json.Unmarshal([]byte(text), &caps); err != nil {
				return nil, fmt.Errorf(`%s is not like {"orders.**":["sub","pub"]}: %w`, text, err)
			}
			continue
		}
		at := strings.LastIndex(text, "=") // topics may have = in them, rights don't
		if at <= 0 || at == len(text)-1 {
			return nil, fmt.Errorf("%q is not like orders.**=sub,pub", text)
		}
		pattern, rights := text[:at], text[at+1:]
		caps[pattern] = append(caps[pattern], strings.Split(rights, ",")...)
	}
	if len(caps) == 0 {
		return nil, fmt.Errorf("say what may be done, such as --cap 'orders.**=sub,pub'")
	}
	return caps, nil
}
