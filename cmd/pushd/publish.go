package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/pushd/pushd/protocol"
	"github.com/pushd/pushd/protocol/client"
)

func publishCommand() *cli.Command {
	return &cli.Command{
		Name: "publish", Aliases: []string{"pub"}, Usage: "publish an event, or one per line",
		UsageText: "pushd publish TOPIC DATA\npushd publish TOPIC - < file\npushd publish --lines TOPIC - < lines",
		Flags: append(clientFlags(),
			&cli.BoolFlag{Name: "lines", Usage: "each line of standard input is one event, stored in order and exactly once"},
			&cli.StringFlag{Name: "id", Usage: "event `ID`; the same one again stores nothing"},
			&cli.StringFlag{Name: "type", Usage: "event `TYPE`"},
			&cli.StringFlag{Name: "content-type", Value: "text/plain", Usage: "media `TYPE` of the data"},
			&cli.StringSliceFlag{Name: "header", Aliases: []string{"H"}, Usage: "`NAME:VALUE` kept with the event"},
			&cli.StringFlag{Name: "ack", Value: "quorum", Usage: "`ACK`: quorum, or none for events that are never stored"},
			&cli.Uint64Flag{Name: "if-match", Usage: "store only if this is the topic's last `OFFSET`; 0: if it has no events"},
			&cli.DurationFlag{Name: "timeout", Usage: "give up after this `TIME`"},
		),
		Action: runPublish,
	}
}

func runPublish(c *cli.Context) error {
	p, err := newPrinter(c)
	if err != nil {
		return err
	}
	m, err := message(c)
	if err != nil {
		return err
	}
	cl, err := newClient(c)
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := withTimeout(c)
	defer cancel()
	if c.Bool("lines") {
		return publishLines(ctx, c, cl, m, p)
	}
	if c.Args().Get(1) == "-" || c.Args().Len() == 1 {
		if m.Data, err = readAll(ctx, c.App.Reader); err != nil {
			return fmt.Errorf("read standard input: %w", err)
		}
	}
	result, err := cl.Publish(ctx, m)
	if err != nil {
		return err
	}
	return printResult(p, result)
}

// readAll reads one event's data.
func readAll(ctx context.Context, in io.Reader) ([]byte, error) {
	return untilDone(ctx, nil, func() ([]byte, error) { return io.ReadAll(io.LimitReader(in, protocol.MaxEventBytes+1)) })
}

// untilDone reads, but does not wait for that beyond ctx or ended: a read from
// a terminal or a pipe can't be called off.
func untilDone[T any](ctx context.Context, ended <-chan struct{}, read func() (T, error)) (v T, err error) {
	done := make(chan struct{})
	var got T
	var readErr error
	go func() {
		defer close(done)
		got, readErr = read()
	}()
	select {
	case <-done:
		return got, readErr
	case <-ended:
		return v, nil
	case <-ctx.Done():
		return v, ctx.Err()
	}
}

func printResult(p *printer, r protocol.PublishResult) error {
	return list(p, r, []protocol.PublishResult{r}, []string{"TOPIC", "OFFSET", "ID", "TIME"}, func(r protocol.PublishResult) []string {
		return []string{r.Topic, fmt.Sprint(r.Offset), r.ID, r.Time.Format("15:04:05.000")}
	})
}

// message is the event that the command line describes.
func message(c *cli.Context) (m client.Message, err error) {
	refuse := func(format string, args ...any) (client.Message, error) {
		return m, &usage{fmt.Sprintf(format, args...), "pushd publish --help"}
	}
	if n := c.Args().Len(); n < 1 || n > 2 {
		return refuse("publish takes a topic and the data (or - for standard input), got %d arguments", n)
	}
	m = client.Message{Topic: c.Args().First(), Data: []byte(c.Args().Get(1)), ID: c.String("id"), Type: c.String("type"), ContentType: c.String("content-type")}
	if err := protocol.CheckTopic(m.Topic); err != nil {
		return m, err
	}
	switch c.String("ack") {
	case "quorum":
	case "none":
		m.Ack = protocol.AckNone
	default:
		return refuse("--ack: %q is not quorum or none", c.String("ack"))
	}
	for _, h := range c.StringSlice("header") {
		name, value, ok := strings.Cut(h, ":")
		if !ok {
			return refuse("--header: %q is not NAME:VALUE", h)
		}
		if m.Headers == nil {
			m.Headers = map[string]string{}
		}
		m.Headers[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	if c.IsSet("if-match") {
		offset := c.Uint64("if-match")
		m.IfMatch = &offset
	}
	if c.Bool("lines") && (m.ID != "" || m.IfMatch != nil || m.Ack == protocol.AckNone) {
		return refuse("--lines makes an id for each event and stores them all: leave out --id, --if-match and --ack none")
	}
	return m, nil
}

// publishLines publishes each line of standard input, as soon as it is there.
func publishLines(ctx context.Context, c *cli.Context, cl *client.Client, m client.Message, p *printer) error {
	count, last := 0, protocol.PublishResult{}
	var printErr error
	w := cl.Writer(func(r protocol.PublishResult) {
		count++
		last = r
		if p.format == "ndjson" && printErr == nil {
			printErr = p.json(r)
		}
	})
	defer w.Close()
	_, readErr := untilDone(ctx, w.Done(), func() (struct{}, error) { return struct{}{}, writeLines(ctx, c.App.Reader, m, w) })
	err := w.Flush(ctx)
	w.Close() // from here on, count and last are ours
	if err = cmp.Or(err, readErr, printErr); err != nil {
		return fmt.Errorf("after %d events that are stored: %w", count, err)
	}
	switch p.format {
	case "ndjson":
		return nil
	case "json":
		return p.json(map[string]any{"topic": m.Topic, "events": count, "last_offset": last.Offset})
	}
	_, _ = fmt.Fprintf(c.App.ErrWriter, "%d events published to %s, the last at offset %d\n", count, m.Topic, last.Offset)
	return nil
}

// writeLines makes each line of in, without its end, an event.
func writeLines(ctx context.Context, in io.Reader, m client.Message, w *client.Writer) error {
	r := bufio.NewReaderSize(in, protocol.MaxEventBytes+1)
	for {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return fmt.Errorf("a line of standard input has more than %d bytes, as many as an event may have", protocol.MaxEventBytes)
		}
		if len(line) > 0 {
			m.Data = bytes.Clone(bytes.TrimSuffix(line, []byte{'\n'}))
			if err := w.Write(ctx, m); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read standard input: %w", err)
		}
	}
}

func withTimeout(c *cli.Context) (context.Context, context.CancelFunc) {
	if d := c.Duration("timeout"); d > 0 {
		return context.WithTimeout(c.Context, d)
	}
	return context.WithCancel(c.Context)
}
