package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/avro"
)

// Schema is one version of a contract, under the id that is on the wire.
type Schema struct {
	ID      int32
	Subject string // full name of the record, for example shop.OrderPlaced
	Version int
	avro    *avro.Schema
}

func (s *Schema) String() string { return fmt.Sprintf("%s v%d (id %d)", s.Subject, s.Version, s.ID) }

// Catalog holds every contract of a schemas directory. It never changes once
// loaded: an id means the same schema for ever.
type Catalog struct {
	byID map[int32]*Schema
}

// idLine is one line of ids.jsonl.
type idLine struct {
	ID      int32  `json:"id"`
	Subject string `json:"subject"`
	Version int    `json:"version"`
	SHA256  string `json:"sha256"` // of the schema's parsing canonical form
}

// loadCatalog reads dir/ids.jsonl and the schema files it names. It refuses a
// file whose fingerprint is not the recorded one, since records written
// under that id would then be read with the wrong schema.
func loadCatalog(dir string) (*Catalog, error) {
	path := filepath.Join(dir, "ids.jsonl")
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, badUsage("cannot read the schema ids (%s); point --schemas at the directory that holds ids.jsonl", err)
	}
	catalog := &Catalog{byID: map[int32]*Schema{}}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for number := 1; lines.Scan(); number++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		if err := catalog.add(dir, lines.Bytes()); err != nil {
			return nil, badUsage("%s:%d: %s", path, number, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, badUsage("%s: %s", path, err)
	}
	if len(catalog.byID) == 0 {
		return nil, badUsage("%s names no schema", path)
	}
	return catalog, nil
}

func (c *Catalog) add(dir string, text []byte) error {
	var line idLine
	if err := json.Unmarshal(text, &line); err != nil {
		return err
	}
	schema, err := loadSchema(dir, line)
	if err != nil {
		return err
	}
	// The file is merged line by line, so the same line may stand there twice.
	known, taken := c.byID[line.ID]
	if taken && (known.Subject != line.Subject || known.Version != line.Version) {
		return fmt.Errorf("id %d is given to both %s and %s", line.ID, known, schema)
	}
	c.byID[line.ID] = schema
	return nil
}

func loadSchema(dir string, line idLine) (*Schema, error) {
	path := filepath.Join(dir, line.Subject, "v"+strconv.Itoa(line.Version)+".avsc")
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	parsed, err := avro.Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	sum := sha256.Sum256(parsed.Canonical())
	if fingerprint := hex.EncodeToString(sum[:]); fingerprint != line.SHA256 {
		return nil, fmt.Errorf("%s has fingerprint %s, but id %d was given to %s: a published version never changes, add a new one",
			path, fingerprint, line.ID, line.SHA256)
	}
	root := parsed.Root()
	if name := fullName(root); name != line.Subject {
		return nil, fmt.Errorf("%s defines %s, not %s", path, name, line.Subject)
	}
	return &Schema{ID: line.ID, Subject: line.Subject, Version: line.Version, avro: parsed}, nil
}

func fullName(node *avro.SchemaNode) string {
	if node.Namespace == "" || strings.Contains(node.Name, ".") {
		return node.Name
	}
	return node.Namespace + "." + node.Name
}

// ByID finds the schema a record was written with.
func (c *Catalog) ByID(id int32) (*Schema, bool) {
	schema, known := c.byID[id]
	return schema, known
}

// Version finds one version of a contract.
func (c *Catalog) Version(subject string, version int) (*Schema, error) {
	for _, schema := range c.byID {
		if schema.Subject == subject && schema.Version == version {
			return schema, nil
		}
	}
	return nil, badUsage("the schemas directory has no %s v%d", subject, version)
}

// ids lists the known ids for a message to a person.
func (c *Catalog) ids() string {
	var known []int
	for id := range c.byID {
		known = append(known, int(id))
	}
	slices.Sort(known)
	return strings.Trim(fmt.Sprint(known), "[]")
}
