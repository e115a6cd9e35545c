package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// order_placed_gen.go is generated; the newest schema is what it must say.
// This test needs no generator.
func TestTheGeneratedTypesAreThoseOfTheNewestSchema(t *testing.T) {
	if err := differsFrom(reflect.TypeFor[OrderPlaced](), newestOrderSchema(t), "OrderPlaced"); err != nil {
		t.Errorf("%v: run go generate, with the newest version in order.go", err)
	}
}

func TestEveryWayToDriftIsNoticed(t *testing.T) {
	fields := func(schema map[string]any) []any { return schema["fields"].([]any) }
	cases := map[string]func(schema map[string]any){
		"has 8 fields, the schema 9": func(schema map[string]any) {
			schema["fields"] = append(fields(schema), map[string]any{"name": "gift", "type": "boolean"})
		},
		"is order_id, the schema's order": func(schema map[string]any) { fields(schema)[0].(map[string]any)["name"] = "order" },
		"is int64, not string":            func(schema map[string]any) { fields(schema)[2].(map[string]any)["type"] = "string" },
		"is *string, not string":          func(schema map[string]any) { fields(schema)[5].(map[string]any)["type"] = "string" },
	}
	for want, spoil := range cases {
		t.Run(want, func(t *testing.T) {
			schema := newestOrderSchema(t)
			spoil(schema)
			err := differsFrom(reflect.TypeFor[OrderPlaced](), schema, "OrderPlaced")
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func newestOrderSchema(t *testing.T) (schema map[string]any) {
	t.Helper()
	for version := 1; ; version++ {
		text, err := os.ReadFile(filepath.Join(schemasDir, orderSubject, fmt.Sprintf("v%d.avsc", version)))
		if err != nil {
			return schema
		}
		schema = nil
		if err := json.Unmarshal(text, &schema); err != nil {
			t.Fatal(err)
		}
	}
}

// differsFrom says where a Go type is not what the schema has; nil where it is.
func differsFrom(got reflect.Type, schema any, where string) error {
	expect := func(want string) error {
		if got.String() != want {
			return fmt.Errorf("%s is %s, not %s", where, got, want)
		}
		return nil
	}
	switch schema := schema.(type) {
	case string:
		return expect(map[string]string{"string": "string", "int": "int32", "long": "int64", "boolean": "bool"}[schema])
	case []any: // null, and one more
		if got.Kind() != reflect.Pointer {
			return fmt.Errorf("%s is %s, not a pointer", where, got)
		}
		return differsFrom(got.Elem(), schema[1], where)
	case map[string]any:
		switch schema["type"] {
		case "record":
			return recordDiffers(got, schema["fields"].([]any), where)
		case "array":
			return differsFrom(got.Elem(), schema["items"], where+"[]")
		case "enum":
			return expect("string")
		}
		if schema["logicalType"] == "timestamp-millis" {
			return expect(reflect.TypeFor[time.Time]().String())
		}
		return differsFrom(got, schema["type"], where)
	}
	return fmt.Errorf("%s: this test knows no %v", where, schema)
}

func recordDiffers(got reflect.Type, fields []any, where string) error {
	if got.NumField() != len(fields) {
		return fmt.Errorf("%s has %d fields, the schema %d", where, got.NumField(), len(fields))
	}
	for i, field := range fields {
		tag, name := got.Field(i).Tag.Get("avro"), field.(map[string]any)["name"].(string)
		if tag != name {
			return fmt.Errorf("%s is %s, the schema's %s", where, tag, name)
		}
		if err := differsFrom(got.Field(i).Type, field.(map[string]any)["type"], where+"."+name); err != nil {
			return err
		}
	}
	return nil
}
