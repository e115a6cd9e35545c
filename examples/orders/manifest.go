package main

import (
	"encoding/json"
	"os"

	"github.com/twmb/franz-go/pkg/kgo"
)

// ManifestLine says that Kafka acknowledged one record. An audit compares
// these lines with what became of each order further on.
type ManifestLine struct {
	ID            string `json:"id"`
	Source        string `json:"source"`
	Kind          Kind   `json:"kind"`
	Duplicate     bool   `json:"duplicate"` // the second sending of this id
	Key           string `json:"key"`
	Partition     int32  `json:"partition"`
	Offset        int64  `json:"offset"`
	SchemaVersion int    `json:"schema_version"` // deployed when it was made
	AmountCents   int64  `json:"amount_cents"`   // 0 for poison, which carries no readable amount
}

// manifestLine describes an acknowledged record.
func manifestLine(event Event, acknowledged *kgo.Record) ManifestLine {
	line := ManifestLine{
		ID:            event.Order.OrderID,
		Source:        orderSource,
		Kind:          event.Kind,
		Duplicate:     event.Repeat,
		Key:           event.Order.CustomerID,
		Partition:     acknowledged.Partition,
		Offset:        acknowledged.Offset,
		SchemaVersion: event.Version,
	}
	if event.Kind == KindOrder || event.Kind == KindRejected {
		line.AmountCents = event.Order.AmountCents
	}
	return line
}

// Manifest is an open manifest file, or nothing if no path was given.
// Its methods are to be called from one goroutine at a time.
type Manifest struct{ file *os.File }

// createManifest begins a manifest at path, over any earlier one.
func createManifest(path string) (*Manifest, error) {
	if path == "" {
		return &Manifest{}, nil
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, badUsage("cannot write the manifest: %s", err)
	}
	return &Manifest{file: file}, nil
}

// append writes a line at once and whole, unbuffered: a process that is killed
// leaves the line of every acknowledgement it had seen.
func (m *Manifest) append(line ManifestLine) error {
	if m.file == nil {
		return nil
	}
	text, err := json.Marshal(line)
	if err != nil {
		return err
	}
	_, err = m.file.Write(append(text, '\n'))
	return err
}

// close makes the manifest durable and closes it.
func (m *Manifest) close() error {
	if m.file == nil {
		return nil
	}
	syncErr := m.file.Sync()
	if err := m.file.Close(); err != nil {
		return err
	}
	return syncErr
}
