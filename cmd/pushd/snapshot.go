package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/pushd/pushd/protocol"
	"github.com/pushd/pushd/protocol/client"
)

func snapshotCommand() *cli.Command {
	return &cli.Command{
		Name: "snapshot", Usage: "keep a cluster's events and policies in a file, and bring them back",
		Description: `A snapshot has every event that was acknowledged before it was begun, with its
offset, id and time, and the policies. Webhooks, keys and presence are not in it.`,
		Subcommands: []*cli.Command{
			{Name: "save", Usage: "write a snapshot", ArgsUsage: "FILE", Flags: clientFlags(), Action: withClient(1, saveSnapshot)},
			{
				Name: "restore", Usage: "give a cluster what is in a snapshot; its topics must not be there", ArgsUsage: "FILE",
				Flags: clientFlags(), Action: withClient(1, restoreSnapshot),
			},
			{
				Name: "inspect", Usage: "check a snapshot and say what is in it", ArgsUsage: "FILE",
				Flags: []cli.Flag{outputFlag()}, Action: inspectSnapshot,
			},
		},
	}
}

// snapshotFile is the one argument of the commands.
func snapshotFile(c *cli.Context) (string, error) {
	if c.Args().Len() != 1 {
		return "", &usage{"name the snapshot's file", helpFor(c)}
	}
	return c.Args().First(), nil
}

// saveSnapshot writes beside the file and renames, so that a file of that name
// is always whole.
func saveSnapshot(c *cli.Context, cl *client.Client, p *printer) error {
	path, err := snapshotFile(c)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".pushd-snapshot-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone where it was renamed
	events, err := cl.SaveSnapshot(c.Context, f)
	if err == nil {
		err = f.Sync()
	}
	size, _ := f.Seek(0, 1)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	saved := struct {
		File   string `json:"file"`
		Events uint64 `json:"events"`
		Bytes  int64  `json:"bytes"`
	}{path, events, size}
	return list(p, saved, []any{saved}, []string{"FILE", "EVENTS", "BYTES"}, func(any) []string {
		return []string{path, fmt.Sprint(events), fmt.Sprint(size)}
	})
}

func restoreSnapshot(c *cli.Context, cl *client.Client, p *printer) error {
	path, err := snapshotFile(c)
	if err != nil {
		return err
	}
	if err := readSnapshot(path, func(protocol.SnapshotPart) error { return nil }); err != nil {
		return err // a damaged one is not begun with
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	result, err := cl.RestoreSnapshot(c.Context, f)
	if err != nil {
		return fmt.Errorf("%w\n%d events had been restored", err, result.Restored)
	}
	return list(p, result, []protocol.RestoreResult{result}, []string{"RESTORED"}, func(r protocol.RestoreResult) []string {
		return []string{fmt.Sprint(r.Restored + r.Known)}
	})
}

// topicOfSnapshot is a line of what inspect prints.
type topicOfSnapshot struct {
	Topic  string    `json:"topic"`
	Events uint64    `json:"events"`
	First  uint64    `json:"first_offset"`
	Last   uint64    `json:"last_offset"`
	Bytes  int       `json:"bytes"`
	Newest time.Time `json:"newest"`
}

func inspectSnapshot(c *cli.Context) error {
	path, err := snapshotFile(c)
	if err != nil {
		return err
	}
	p, err := newPrinter(c)
	if err != nil {
		return err
	}
	var head protocol.SnapshotHead
	topics := map[string]*topicOfSnapshot{}
	err = readSnapshot(path, func(part protocol.SnapshotPart) error {
		if part.Head != nil {
			head = *part.Head
		}
		if e := part.Event; e != nil {
			t := topics[e.Topic]
			if t == nil {
				t = &topicOfSnapshot{Topic: e.Topic, First: e.Offset}
				topics[e.Topic] = t
			}
			t.Events++
			t.Last, t.Bytes, t.Newest = e.Offset, t.Bytes+len(e.Data), time.Unix(0, e.Time).UTC()
		}
		return nil
	})
	if err != nil {
		return err
	}
	rows := make([]topicOfSnapshot, 0, len(topics))
	for _, t := range topics {
		rows = append(rows, *t)
	}
	slices.SortFunc(rows, func(a, b topicOfSnapshot) int { return cmp.Compare(a.Topic, b.Topic) })
	_, _ = fmt.Fprintf(c.App.ErrWriter, "pushd: whole and undamaged; taken %s of cluster %s with %d partitions and %d policies\n",
		head.Taken.Format(time.RFC3339), head.ClusterID, head.Partitions, len(head.Policies))
	whole := struct {
		protocol.SnapshotHead
		Topics []topicOfSnapshot `json:"topics"`
	}{head, rows}
	return list(p, whole, rows, []string{"TOPIC", "EVENTS", "FIRST", "LAST", "BYTES", "NEWEST"}, func(t topicOfSnapshot) []string {
		return []string{t.Topic, fmt.Sprint(t.Events), fmt.Sprint(t.First), fmt.Sprint(t.Last), fmt.Sprint(t.Bytes), t.Newest.Format(time.RFC3339)}
	})
}

func readSnapshot(path string, part func(protocol.SnapshotPart) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := client.ReadSnapshot(f, part); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
