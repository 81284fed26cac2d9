// Package integration proves pushd from outside: real processes, real sockets,
// real files. It holds the rules of the repository as tests as well, and the
// benchmarks whose figures the README shows.
//
// Tests that start processes build the pushd binary once per run. Their nodes
// listen on loopback ports that the kernel chose, keep their data below the
// test's own directory and are killed with it. Pages are shown by the Chromium
// that PUSHD_BROWSER names, or one that is on the PATH; without, those tests skip. Where networks have to fail, each
// node has one of its own: netns.
package integration
