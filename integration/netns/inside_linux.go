package netns

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// insideVariable is set in the process that [Inside] started.
const insideVariable = "PUSHD_INSIDE_NETWORK"

// Inside says whether this process may make networks. If not it runs the test
// again in one that may, reports what became of it, and returns false; where no
// namespaces can be made it skips the test. args are more for the test binary,
// such as which benchmarks to run.
func Inside(t testing.TB, args ...string) bool {
	t.Helper()
	if os.Getenv(insideVariable) != "" {
		return true
	}
	cmd := inNew(exec.Command(os.Args[0], append([]string{"-test.v", "-test.timeout", "0", "-test.run", "^" + t.Name() + "$"}, args...)...))
	var out bytes.Buffer
	cmd.Stdout = &out
	_, bench := t.(*testing.B)
	if bench { // whose log is cut off, and whose tables are waited for
		cmd.Stdout = io.MultiWriter(&out, os.Stdout)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Skipf("no network namespace can be made here: %v", err)
	}
	err := cmd.Wait()
	if !bench {
		t.Logf("inside the namespace:\n%s", &out)
	}
	if err != nil {
		t.Errorf("inside the namespace: %v", err)
	}
	if strings.Contains(out.String(), "--- SKIP: "+t.Name()+" ") {
		t.Skip("skipped inside the namespace, see above")
	}
	return false
}

// inNew has a command run in a new namespace, which ends with this process. Who
// is not root is root in there only.
func inNew(cmd *exec.Cmd) *exec.Cmd {
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: gid, Size: 1}}
	}
	return cmd
}
