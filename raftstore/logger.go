package raftstore

import (
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// raftLogger is hashicorp/raft's log within ours. Its info and warnings are the normal course of elections, which an
// operator does not act on: they become debug.
type raftLogger struct {
	hclog.Logger // the rest of the interface: discards
	log          *slog.Logger
}

func newRaftLogger(log *slog.Logger, group uint16) *raftLogger {
	return &raftLogger{Logger: hclog.NewNullLogger(), log: log.With("group", group)}
}

func (l *raftLogger) Error(msg string, args ...any) {
	l.log.Debug(msg, args...)
}

func (l *raftLogger) Warn(msg string, args ...any) {
	l.log.Debug(msg, args...)
}

func (l *raftLogger) Info(msg string, args ...any) {
	l.log.Debug(msg, args...)
}

func (l *raftLogger) With(args ...any) hclog.Logger {
	return &raftLogger{Logger: l.Logger, log: l.log.With(args...)}
}
