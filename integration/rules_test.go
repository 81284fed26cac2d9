package integration

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/pushd/pushd/"

const (
	maxFileLines     = 500
	maxFunctionLines = 60
	maxDocLines      = 60
)

// mayImport is the import table of the design: what a package may use of ours.
var mayImport = map[string][]string{
	"protocol":           nil,
	"protocol/js":        nil,
	"raftstore":          nil,
	"protocol/client":    {"protocol"},
	"cluster":            {"protocol"},
	"broker":             {"protocol"},
	"broker/webhook":     {"protocol", "broker"},
	"edge":               {"protocol", "broker", "protocol/js", "edge/console"},
	"edge/console":       nil,
	"cmd/node":           {"protocol", "raftstore", "cluster", "broker", "broker/webhook", "edge"},
	"cmd/pushd":          {"protocol", "protocol/client", "cmd/node"},
	"integration":        {"protocol", "protocol/client", "cmd/node", "integration/memnet", "integration/netns"},
	"integration/memnet": nil,
	"integration/netns":  nil,
}

// longFunctions may pass the limit, each with its reason.
var longFunctions = map[string]string{}

// source is one Go file of the repository, parsed.
type source struct {
	path string // slash-separated, below the root
	dir  string
	test bool
	file *ast.File
	fset *token.FileSet
}

func (s source) lines(n ast.Node) int {
	return s.fset.Position(n.End()).Line - s.fset.Position(n.Pos()).Line + 1
}

func sources(t *testing.T) []source {
	t.Helper()
	var out []source
	root := os.DirFS("..")
	err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		if strings.HasPrefix(path, "integration/peers/") {
			return nil // a module of its own
		}
		text, err := fs.ReadFile(root, path)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, text, parser.ParseComments)
		out = append(out, source{path, filepath.ToSlash(filepath.Dir(path)), strings.HasSuffix(path, "_test.go"), file, fset})
		return err
	})
	if err != nil || len(out) < 10 {
		t.Fatalf("reading the repository: %d files, %v", len(out), err)
	}
	return out
}

func TestPackagesImportOnlyWhatTheDesignAllows(t *testing.T) {
	for _, s := range sources(t) {
		allowed, known := mayImport[s.dir]
		if !known {
			t.Errorf("%s: package %s is not in the import table", s.path, s.dir)
			continue
		}
		for _, spec := range s.file.Imports {
			path, ours := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), module)
			if !ours || path == s.dir || slices.Contains(allowed, path) || (s.test && strings.HasPrefix(path, "integration/memnet")) {
				continue
			}
			t.Errorf("%s imports %s, which the import table does not allow to %s", s.path, path, s.dir)
		}
	}
}

func TestProtocolUsesTheStandardLibraryOnly(t *testing.T) {
	for _, s := range sources(t) {
		if s.dir != "protocol" || s.test {
			continue
		}
		for _, spec := range s.file.Imports {
			if path := strings.Trim(spec.Path.Value, `"`); strings.Contains(strings.Split(path, "/")[0], ".") {
				t.Errorf("%s imports %s", s.path, path)
			}
		}
	}
}

func TestFilesAndFunctionsStayShort(t *testing.T) {
	for _, s := range sources(t) {
		if n := s.fset.Position(s.file.FileEnd).Line; n > maxFileLines {
			t.Errorf("%s has %d lines, at most %d", s.path, n, maxFileLines)
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			if n := s.lines(f); n > maxFunctionLines && longFunctions[s.dir+"."+f.Name.Name] == "" {
				t.Errorf("%s: func %s has %d lines, at most %d", s.path, f.Name.Name, n, maxFunctionLines)
			}
		}
	}
}

func TestEveryPackageSaysWhatItIsIn60Lines(t *testing.T) {
	docs := map[string]int{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		docs[s.dir] += 0
		if s.file.Doc != nil {
			docs[s.dir] += s.lines(s.file.Doc)
		}
	}
	for dir, lines := range docs {
		if lines == 0 || lines > maxDocLines {
			t.Errorf("%s: the package comment has %d lines, want 1 to %d", dir, lines, maxDocLines)
		}
	}
}

func TestNoPackageStartsWorkOnImport(t *testing.T) {
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s has an init function", s.path)
			}
		}
	}
}

func TestEverySkippedTestSaysWhy(t *testing.T) {
	for _, s := range sources(t) {
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if ok && (sel.Sel.Name == "SkipNow" || sel.Sel.Name == "Skip" && len(call.Args) == 0) {
				t.Errorf("%s:%d: a test is skipped without a reason", s.path, s.fset.Position(call.Pos()).Line)
			}
			return true
		})
	}
}
