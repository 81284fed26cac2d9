package peers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// pushdBinary is the pushd that is measured, built from this checkout.
var pushdBinary string

// TestMain is also the main function of each peer that is a library: this
// binary, started again.
func TestMain(m *testing.M) {
	if name := os.Getenv(childVariable); name != "" {
		os.Exit(serveChild(name))
	}
	if config := os.Getenv(jetStreamVariable); config != "" {
		os.Exit(serveJetStream(config))
	}
	os.Exit(build(m))
}

func build(m *testing.M) int {
	dir, err := os.MkdirTemp("", "pushd-peers-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	pushdBinary = filepath.Join(dir, "pushd")
	command := exec.Command("go", "build", "-o", pushdBinary, "./cmd/pushd")
	command.Dir = filepath.Join("..", "..") // there, since the module with pushd's dependencies is that one
	if out, err := command.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building pushd: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}
