package netns

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// InsideVariable is set in the process that [Inside] started.
const InsideVariable = "PUSHD_INSIDE_NETWORK"

// Inside says whether this process may make networks. If not it runs the test
// again in one that may, reports what became of it, and returns false; where no
// namespaces can be made it skips the test. args are more for the test binary,
// such as the benchmarks to run.
func Inside(t testing.TB, args ...string) bool {
	t.Helper()
	if os.Getenv(InsideVariable) != "" {
		return true
	}
	if err := inNew(exec.Command(os.Args[0], "-test.list", "^$")).Run(); err != nil {
		t.Skipf("no network namespace can be made here: %v", err)
	}
	cmd := inNew(exec.Command(os.Args[0], append([]string{"-test.run", "^" + t.Name() + "$"}, args...)...))
	if testing.Verbose() {
		cmd.Args = append(cmd.Args, "-test.v")
	}
	out, err := cmd.CombinedOutput()
	t.Logf("inside the namespace:\n%s", out)
	if err != nil {
		t.Errorf("inside the namespace: %v", err)
	}
	return false
}

// inNew has a command run in a new namespace, which ends with this process. Who
// is not root is root in there only.
func inNew(cmd *exec.Cmd) *exec.Cmd {
	cmd.Env = append(os.Environ(), InsideVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: gid, Size: 1}}
	}
	return cmd
}
