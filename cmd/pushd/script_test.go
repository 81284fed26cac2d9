package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets scripts run this test binary as pushd.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"pushd": main})
}

func TestScripts(t *testing.T) {
	url := startNode(t)
	t.Run("all", func(t *testing.T) { // the node ends behind the scripts, which run side by side
		testscript.Run(t, testscript.Params{
			Dir:   "testdata/script",
			Setup: func(e *testscript.Env) error { return setup(e, url) },
			Cmds:  map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "mkpair": mkpair, "overunix": overunix},
		})
	})
}

// setup gives a script a running node and free ports for its own.
func setup(e *testscript.Env, url string) error {
	e.Setenv("NODE", url)
	e.Setenv("PUSHD_SERVER", url)
	e.Setenv("SYSTEM", "$sys")
	offset, err := freeOffset()
	for i, name := range []string{"CLIENT", "PEER", "GOSSIP"} {
		e.Setenv(name, fmt.Sprint("127.0.0.1:", 7340+offset+20+i))
	}
	e.Setenv("DEVOFFSET", strconv.Itoa(offset))
	e.Setenv("DEVPORT", strconv.Itoa(7340+offset))
	return err
}

// exits CODE COMMAND… runs a command that must end with that code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND…")
	}
	got := 0
	err := ts.Exec(args[1], args[2:]...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("got exit code %d, want %s", got, args[0])
	}
}

// freeOffset is a --port-offset with which the ports of three nodes are free.
// They lie below those that the system gives to outgoing connections.
func freeOffset() (int, error) {
search:
	for offset := 1000 + os.Getpid()%1000; offset < 20000; offset += 37 {
		for _, port := range []int{0, 1, 2, 10, 11, 12, 20, 21, 22} {
			l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", 7340+offset+port))
			if err != nil {
				continue search
			}
			_ = l.Close()
		}
		return offset, nil
	}
	return 0, errors.New("no ports are free")
}
