package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// copySchemas copies the contracts to a folder a test may spoil.
func copySchemas(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(schemasDir)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func rewrite(t *testing.T, path, old, new string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		t.Fatalf("%s does not contain %q", path, old)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), old, new, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCatalogRefusesASpoiledDirectory(t *testing.T) {
	v1 := filepath.Join(orderSubject, "v1.avsc")
	cases := []struct {
		name  string
		spoil func(dir string)
		want  string
	}{
		{"no ids", func(dir string) { os.Remove(filepath.Join(dir, "ids.jsonl")) }, "cannot read the schema ids"},
		{"empty ids", func(dir string) { os.Truncate(filepath.Join(dir, "ids.jsonl"), 0) }, "names no schema"},
		{"bad line", func(dir string) { rewrite(t, filepath.Join(dir, "ids.jsonl"), `{"id": 1`, `{"id": one`) }, "ids.jsonl:1:"},
		{"missing schema", func(dir string) { os.Remove(filepath.Join(dir, v1)) }, "v1.avsc"},
		{"changed schema", func(dir string) { rewrite(t, filepath.Join(dir, v1), "amount_cents", "amount") }, "never changes"},
		{"broken schema", func(dir string) { rewrite(t, filepath.Join(dir, v1), `"record"`, `"recrod"`) }, "v1.avsc"},
		{"id used twice", func(dir string) { rewrite(t, filepath.Join(dir, "ids.jsonl"), `{"id": 2`, `{"id": 1`) }, "id 1 is given to both"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := copySchemas(t)
			c.spoil(dir)
			_, err := loadCatalog(dir)
			if exitStatus(err) != exitUsage || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestCatalogAcceptsALineMergedInTwice(t *testing.T) {
	dir := copySchemas(t)
	path := filepath.Join(dir, "ids.jsonl")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(text, text...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadCatalog(dir); err != nil {
		t.Error(err)
	}
}
