package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
)

// GoldenVector is one example record of the wire contract, the same for every
// language: what is inside it, and what is on the wire.
type GoldenVector struct {
	Name          string          `json:"name"`
	Subject       string          `json:"subject"`
	Version       int             `json:"version"`
	SchemaID      int32           `json:"schema_id"`
	Key           string          `json:"key"`
	PartitionOf4  int             `json:"partition_of_4"`
	PartitionOf12 int             `json:"partition_of_12"`
	Headers       [][2]string     `json:"headers"`
	Value         json.RawMessage `json:"value"`
	Hex           string          `json:"hex"`     // of the framed value
	ReadAs        *GoldenReading  `json:"read_as"` // optional
}

// GoldenReading is what a reader with another version makes of the vector.
type GoldenReading struct {
	Version int             `json:"version"`
	Value   json.RawMessage `json:"value"`
}

func defineGolden(flags *flag.FlagSet) func(context.Context, streams) error {
	schemas := schemasFlag(flags)
	return func(_ context.Context, io streams) error {
		catalog, vectors, err := loadGolden(*schemas)
		if err != nil {
			return err
		}
		return checkGolden(catalog, vectors, io)
	}
}

// checkGolden prints a line for each vector, and fails if any differs.
func checkGolden(catalog *Catalog, vectors []GoldenVector, io streams) error {
	failed := 0
	for _, vector := range vectors {
		if err := vector.check(catalog); err != nil {
			failed++
			fmt.Fprintf(io.out, "differs  %s\n", vector.Name)
			fmt.Fprintln(io.log, err)
			continue
		}
		fmt.Fprintf(io.out, "same     %s\n", vector.Name)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d golden vectors differ", failed, len(vectors))
	}
	return nil
}

// loadGolden reads the catalog and every vector under dir/golden.
func loadGolden(dir string) (*Catalog, []GoldenVector, error) {
	catalog, err := loadCatalog(dir)
	if err != nil {
		return nil, nil, err
	}
	paths, err := filepath.Glob(filepath.Join(dir, "golden", "*.json"))
	if err != nil || len(paths) == 0 {
		return nil, nil, badUsage("no golden vectors in %s", filepath.Join(dir, "golden"))
	}
	slices.Sort(paths)
	var vectors []GoldenVector
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, badUsage("cannot read a golden vector: %s", err)
		}
		var vector GoldenVector
		if err := json.Unmarshal(text, &vector); err != nil {
			return nil, nil, badUsage("%s: %s", path, err)
		}
		vectors = append(vectors, vector)
	}
	return catalog, vectors, nil
}

// check compares all that this program makes of the vector with what the
// vector says, and returns every difference.
func (g GoldenVector) check(catalog *Catalog) error {
	schema, known := catalog.ByID(g.SchemaID)
	if !known {
		return fmt.Errorf("%s: schema_id %d is not in ids.jsonl", g.Name, g.SchemaID)
	}
	framed, err := hex.DecodeString(g.Hex)
	if err != nil {
		return fmt.Errorf("%s: hex: %w", g.Name, err)
	}
	differences := errors.Join(
		differ("subject", g.Subject, schema.Subject),
		differ("version", g.Version, schema.Version),
		g.checkDecoding(catalog, framed),
		g.checkEncoding(catalog, framed),
		g.checkReadAs(catalog, schema, framed),
		g.checkHeaders(),
		differ("partition of 4", g.PartitionOf4, partitionOf(g.Key, 4)),
		differ("partition of 12", g.PartitionOf12, partitionOf(g.Key, 12)),
	)
	if differences != nil {
		return fmt.Errorf("%s: %w", g.Name, differences)
	}
	return nil
}

func differ[T comparable](what string, golden, got T) error {
	if golden == got {
		return nil
	}
	return fmt.Errorf("%s: golden %v, here %v", what, golden, got)
}

func (g GoldenVector) checkDecoding(catalog *Catalog, framed []byte) error {
	_, text, err := decodeToJSON(catalog, framed)
	if err != nil {
		return fmt.Errorf("decoding: %w", err)
	}
	return differJSON("decoded value", g.Value, text)
}

// encode renders the vector's JSON value as it goes on the wire.
func (g GoldenVector) encode(schema *Schema) ([]byte, error) {
	var value any
	if err := schema.avro.DecodeJSON(g.Value, &value); err != nil {
		return nil, fmt.Errorf("value does not fit %s: %w", schema, err)
	}
	return encode(schema, value)
}

// checkEncoding demands equal bytes. Only where Avro leaves a choice, in the
// order of a map's entries, does it accept others that mean the same.
func (g GoldenVector) checkEncoding(catalog *Catalog, framed []byte) error {
	schema, _ := catalog.ByID(g.SchemaID)
	encoded, err := g.encode(schema)
	if err != nil {
		return err
	}
	if !bytes.Equal(encoded, framed) && hasMap(schema) {
		return g.checkDecoding(catalog, encoded)
	}
	return differ("encoded bytes", g.Hex, hex.EncodeToString(encoded))
}

func (g GoldenVector) checkReadAs(catalog *Catalog, writer *Schema, framed []byte) error {
	if g.ReadAs == nil {
		return nil
	}
	reader, err := catalog.Version(g.Subject, g.ReadAs.Version)
	if err != nil {
		return err
	}
	value, err := resolve(writer, reader, framed[frameHeaderSize:])
	if err != nil {
		return err
	}
	return differJSON(fmt.Sprintf("value read as v%d", reader.Version), g.ReadAs.Value, value)
}

func (g GoldenVector) checkHeaders() error {
	envelope, err := parseEnvelope(g.Headers)
	if err != nil {
		return err
	}
	var built [][2]string
	for _, header := range envelope.headers() {
		built = append(built, [2]string{header.Key, string(header.Value)})
	}
	return differ("headers", fmt.Sprintf("%q", g.Headers), fmt.Sprintf("%q", built))
}

// partitionOf asks the partitioner that produce uses where a key belongs.
func partitionOf(key string, partitions int) int {
	return kgo.StickyKeyPartitioner(nil).ForTopic("any").Partition(&kgo.Record{Key: []byte(key)}, partitions)
}

// differJSON compares two JSON texts as values, numbers digit by digit.
func differJSON(what string, golden, got []byte) error {
	a, errA := normalJSON(golden)
	b, errB := normalJSON(got)
	if err := errors.Join(errA, errB); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return differ(what, a, b)
}

func normalJSON(text []byte) (string, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return "", err
	}
	normal, err := json.Marshal(value) // sorts the keys of objects
	return string(normal), err
}
