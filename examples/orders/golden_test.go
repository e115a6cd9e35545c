package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
)

func TestGoldenVectors(t *testing.T) {
	catalog, vectors, err := loadGolden(schemasDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, vector := range vectors {
		t.Run(vector.Name, func(t *testing.T) {
			if err := vector.check(catalog); err != nil {
				t.Error(err)
			}
		})
	}
}

// A check that cannot fail is worth nothing: each of these is one thing wrong.
func TestGoldenCheckNoticesEveryKindOfDifference(t *testing.T) {
	catalog, vectors, err := loadGolden(schemasDir)
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]func(*GoldenVector){
		"decoded value":   func(g *GoldenVector) { g.Value = bytes.Replace(g.Value, []byte("1299"), []byte("1298"), 1) },
		"encoded bytes":   func(g *GoldenVector) { g.Hex += "00" },
		"decoding":        func(g *GoldenVector) { g.Hex = g.Hex[:len(g.Hex)-2] },
		"hex":             func(g *GoldenVector) { g.Hex += "zz" },
		"schema_id":       func(g *GoldenVector) { g.SchemaID = unknownSchema },
		"subject":         func(g *GoldenVector) { g.Subject = "shop.Other" },
		"version":         func(g *GoldenVector) { g.Version = 2 },
		"read as v2":      func(g *GoldenVector) { g.ReadAs.Value = g.Value },
		"headers":         func(g *GoldenVector) { g.Headers[0], g.Headers[1] = g.Headers[1], g.Headers[0] },
		"ce_time":         func(g *GoldenVector) { g.Headers[4][1] = "2026-09-21T14:13:20Z" },
		"x-other":         func(g *GoldenVector) { g.Headers[0][0] = "x-other" },
		"partition of 4":  func(g *GoldenVector) { g.PartitionOf4++ },
		"partition of 12": func(g *GoldenVector) { g.Key = "customer-18" },
	}
	for want, spoil := range cases {
		t.Run(want, func(t *testing.T) {
			spoiled := vectorNamed(t, vectors, "order-placed-v1")
			spoil(&spoiled)
			if err := spoiled.check(catalog); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// vectorNamed returns a deep copy of one vector.
func vectorNamed(t *testing.T, vectors []GoldenVector, name string) (found GoldenVector) {
	t.Helper()
	for _, vector := range vectors {
		if vector.Name == name {
			text, err := json.Marshal(vector)
			if err == nil {
				err = json.Unmarshal(text, &found)
			}
			if err != nil {
				t.Fatal(err)
			}
			return found
		}
	}
	t.Fatalf("no golden vector %s", name)
	return found
}

func TestGoldenRecordsAreEncodedFromTheirValues(t *testing.T) {
	catalog, vectors, err := loadGolden(schemasDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, vector := range vectors {
		wire := vector.Hex
		vector.Hex = "" // must not be needed
		record, err := vector.record(catalog, "golden")
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(record.Value); got != wire {
			t.Errorf("%s: got %s, want %s", vector.Name, got, wire)
		}
	}
}
