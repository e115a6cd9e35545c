package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/twmb/avro"
)

// jsonForm turns decoded Avro values into the JSON of the wire contract, and
// back: decimals are texts ("12.30"), bytes and fixed base64, dates and times
// the integers that are on the wire, unions the bare value. twmb/avro's own
// JSON is that of the Avro specification, which has bytes as "\u00ff".
type jsonForm struct {
	root  *avro.SchemaNode
	named map[string]*avro.SchemaNode
}

var errNotOfType = errors.New("does not fit its type")

// What twmb/avro does not look at: it writes any text as a uuid, which others
// then cannot read.
var uuidText = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

func newJSONForm(schema *avro.Schema) *jsonForm {
	form := &jsonForm{root: schema.Root(), named: map[string]*avro.SchemaNode{}}
	form.collect(form.root, "")
	return form
}

// collect enters the types that have names, and gives references, which stand
// in the tree as the schema has them, their full names.
func (f *jsonForm) collect(node *avro.SchemaNode, namespace string) {
	if node == nil {
		return
	}
	if node.Name != "" {
		name := fullName(node)
		f.named[name] = node
		namespace = name[:max(0, strings.LastIndex(name, "."))]
	}
	if name := namespace + "." + node.Type; f.named[name] != nil {
		node.Type = name
	}
	f.collect(node.Items, namespace)
	f.collect(node.Values, namespace)
	for i := range node.Branches {
		f.collect(&node.Branches[i], namespace)
	}
	for i := range node.Fields {
		f.collect(&node.Fields[i].Type, namespace)
	}
}

// definition is the type that a node names, or the node itself.
func (f *jsonForm) definition(node *avro.SchemaNode) *avro.SchemaNode {
	if named, known := f.named[node.Type]; known {
		return named
	}
	return node
}

// toJSON renders what Schema.Decode made.
func (f *jsonForm) toJSON(value any) (any, error) { return f.render(f.root, value) }

func (f *jsonForm) render(node *avro.SchemaNode, value any) (any, error) {
	node = f.definition(node)
	switch v := value.(type) {
	case nil, bool, int32, int64:
		return v, nil
	case string:
		if !utf8.ValidString(v) { // which twmb/avro reads
			return nil, fmt.Errorf("a text that is no UTF-8 %w", errNotOfType)
		}
		return v, nil
	case float32:
		return renderFloat(float64(v)), nil
	case float64:
		return renderFloat(v), nil
	case []byte:
		return base64.StdEncoding.EncodeToString(v), nil
	case avro.Duration:
		octets := v.Bytes()
		return base64.StdEncoding.EncodeToString(octets[:]), nil
	case *big.Rat:
		return f.renderDecimal(node, v)
	case time.Time:
		return f.renderTime(node, v)
	case time.Duration:
		return f.renderTimeOfDay(node, v)
	case []any:
		return f.renderItems(node, v)
	case map[string]any:
		return f.renderEntries(node, v)
	}
	return nil, fmt.Errorf("%T %w", value, errNotOfType)
}

func renderFloat(v float64) any {
	switch {
	case math.IsNaN(v):
		return "NaN"
	case math.IsInf(v, 1):
		return "Infinity"
	case math.IsInf(v, -1):
		return "-Infinity"
	}
	return v
}

// branch is the first branch of a union for which fits holds, or the node
// itself where it is no union.
func (f *jsonForm) branch(node *avro.SchemaNode, fits func(*avro.SchemaNode) bool) (*avro.SchemaNode, error) {
	if node.Type != "union" {
		return node, nil
	}
	for i := range node.Branches {
		if branch := f.definition(&node.Branches[i]); fits(branch) {
			return branch, nil
		}
	}
	return nil, errNotOfType
}

// renderDecimal also refuses what has more digits than the schema allows,
// which twmb/avro reads.
func (f *jsonForm) renderDecimal(node *avro.SchemaNode, v *big.Rat) (any, error) {
	node, err := f.branch(node, func(b *avro.SchemaNode) bool { return b.LogicalType == "decimal" })
	if err != nil {
		return nil, err
	}
	limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(node.Precision)), nil)
	scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(node.Scale)), nil)
	unscaled := new(big.Rat).Mul(v, new(big.Rat).SetInt(scale))
	if unscaled.Abs(unscaled).Cmp(new(big.Rat).SetInt(limit)) >= 0 {
		return nil, fmt.Errorf("%s has more than %d digits: it %w", v.FloatString(node.Scale), node.Precision, errNotOfType)
	}
	return v.FloatString(node.Scale), nil
}

func (f *jsonForm) renderTime(node *avro.SchemaNode, v time.Time) (any, error) {
	node, err := f.branch(node, isTime)
	if err != nil {
		return nil, err
	}
	switch node.LogicalType {
	case "date":
		return floorDiv(v.Unix(), 86_400), nil
	case "timestamp-millis", "local-timestamp-millis":
		return v.UnixMilli(), nil
	}
	return v.UnixMicro(), nil
}

func (f *jsonForm) renderTimeOfDay(node *avro.SchemaNode, v time.Duration) (any, error) {
	node, err := f.branch(node, isTime)
	if err != nil {
		return nil, err
	}
	if node.LogicalType == "time-millis" {
		return v.Milliseconds(), nil
	}
	return v.Microseconds(), nil
}

func isTime(node *avro.SchemaNode) bool { return timeBounds(node.LogicalType) != nil }

func floorDiv(a, b int64) int64 {
	if a%b < 0 {
		return a/b - 1
	}
	return a / b
}

func (f *jsonForm) renderItems(node *avro.SchemaNode, items []any) (any, error) {
	node, err := f.branch(node, func(b *avro.SchemaNode) bool { return b.Type == "array" })
	if err != nil {
		return nil, err
	}
	rendered := make([]any, len(items))
	for i, item := range items {
		if rendered[i], err = f.render(node.Items, item); err != nil {
			return nil, err
		}
	}
	return rendered, nil
}

func (f *jsonForm) renderEntries(node *avro.SchemaNode, entries map[string]any) (any, error) {
	node, err := f.branch(node, func(b *avro.SchemaNode) bool { return b.Type == "map" || b.Type == "record" })
	if err != nil {
		return nil, err
	}
	rendered := make(map[string]any, len(entries))
	if node.Type == "map" {
		for key, entry := range entries {
			if rendered[key], err = f.render(node.Values, entry); err != nil {
				return nil, err
			}
		}
		return rendered, nil
	}
	for i := range node.Fields {
		field := &node.Fields[i]
		if rendered[field.Name], err = f.render(&field.Type, entries[field.Name]); err != nil {
			return nil, fmt.Errorf("%s: %w", field.Name, err)
		}
	}
	return rendered, nil
}

// fromJSON makes what Schema.AppendEncode takes, and refuses what does not
// fit: also a field that is missing and has no default.
func (f *jsonForm) fromJSON(text json.RawMessage) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	return f.build(f.root, value)
}

func (f *jsonForm) build(node *avro.SchemaNode, value any) (any, error) {
	node = f.definition(node)
	switch node.LogicalType {
	case "decimal":
		return buildDecimal(value)
	case "uuid":
		if text, isText := value.(string); isText && !uuidText.MatchString(text) {
			return nil, fmt.Errorf("%q is no UUID: it %w", text, errNotOfType)
		}
	}
	switch node.Type {
	case "union":
		return f.buildBranch(node, value)
	case "record":
		return f.buildRecord(node, value)
	case "array":
		return f.buildItems(node, value)
	case "map":
		return f.buildEntries(node, value)
	case "bytes", "fixed":
		return buildBytes(node, value)
	case "int", "long":
		return buildInteger(node, value)
	case "float", "double":
		return buildFloat(value)
	case "null":
		return value, isA(value == nil, value)
	case "boolean":
		_, fits := value.(bool)
		return value, isA(fits, value)
	}
	_, fits := value.(string) // string, enum
	return value, isA(fits, value)
}

func isA(fits bool, value any) error {
	if fits {
		return nil
	}
	return fmt.Errorf("%v %w", value, errNotOfType)
}

func (f *jsonForm) buildBranch(node *avro.SchemaNode, value any) (any, error) {
	for i := range node.Branches {
		if built, err := f.build(&node.Branches[i], value); err == nil {
			return built, nil
		}
	}
	return nil, isA(false, value)
}

func (f *jsonForm) buildRecord(node *avro.SchemaNode, value any) (any, error) {
	entries, fits := value.(map[string]any)
	if !fits {
		return nil, isA(false, value)
	}
	built := make(map[string]any, len(entries))
	for i := range node.Fields {
		field := &node.Fields[i]
		entry, given := entries[field.Name]
		if !given && field.HasDefault {
			continue // twmb/avro writes the default
		}
		if !given {
			return nil, fmt.Errorf("%s is missing and has no default", field.Name)
		}
		var err error
		if built[field.Name], err = f.build(&field.Type, entry); err != nil {
			return nil, fmt.Errorf("%s: %w", field.Name, err)
		}
	}
	return built, nil
}

func (f *jsonForm) buildItems(node *avro.SchemaNode, value any) (any, error) {
	items, fits := value.([]any)
	built := make([]any, len(items))
	for i, item := range items {
		var err error
		if built[i], err = f.build(node.Items, item); err != nil {
			return nil, err
		}
	}
	return built, isA(fits, value)
}

func (f *jsonForm) buildEntries(node *avro.SchemaNode, value any) (any, error) {
	entries, fits := value.(map[string]any)
	built := make(map[string]any, len(entries))
	for key, entry := range entries {
		var err error
		if built[key], err = f.build(node.Values, entry); err != nil {
			return nil, err
		}
	}
	return built, isA(fits, value)
}

func buildDecimal(value any) (any, error) {
	text, fits := value.(string)
	if !fits {
		return nil, isA(false, value)
	}
	number, fits := new(big.Rat).SetString(text)
	return number, isA(fits, value)
}

func buildBytes(node *avro.SchemaNode, value any) (any, error) {
	text, fits := value.(string)
	if !fits {
		return nil, isA(false, value)
	}
	octets, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	if node.LogicalType == "duration" && len(octets) == node.Size {
		return avro.DurationFromBytes(octets), nil
	}
	return octets, nil // twmb/avro looks at the size of a fixed
}

func buildFloat(value any) (any, error) {
	switch v := value.(type) {
	case json.Number:
		return v.Float64()
	case string:
		switch v {
		case "NaN":
			return math.NaN(), nil
		case "Infinity":
			return math.Inf(1), nil
		case "-Infinity":
			return math.Inf(-1), nil
		}
	}
	return nil, isA(false, value)
}

const microsADay = 86_400_000_000

// timeBounds are the lowest and the highest number that is a date or time in
// the years 1 to 9999; nil where the type is none.
func timeBounds(logicalType string) []int64 {
	const firstDay, lastDay = -719_162, 2_932_896
	switch logicalType {
	case "date":
		return []int64{firstDay, lastDay}
	case "time-millis":
		return []int64{0, microsADay/1000 - 1}
	case "time-micros":
		return []int64{0, microsADay - 1}
	case "timestamp-millis", "local-timestamp-millis":
		return []int64{firstDay * (microsADay / 1000), (lastDay+1)*(microsADay/1000) - 1}
	case "timestamp-micros", "local-timestamp-micros":
		return []int64{firstDay * microsADay, (lastDay+1)*microsADay - 1}
	}
	return nil
}

func buildInteger(node *avro.SchemaNode, value any) (any, error) {
	text, fits := value.(json.Number)
	if !fits {
		return nil, isA(false, value)
	}
	number, err := text.Int64()
	if err != nil {
		return nil, err
	}
	if bounds := timeBounds(node.LogicalType); bounds != nil && (number < bounds[0] || number > bounds[1]) {
		return nil, fmt.Errorf("%d is no %s: it %w", number, node.LogicalType, errNotOfType)
	}
	switch node.LogicalType {
	case "date":
		return time.Unix(number*86_400, 0).UTC(), nil
	case "time-millis":
		return time.Duration(number) * time.Millisecond, nil
	case "time-micros":
		return time.Duration(number) * time.Microsecond, nil
	case "timestamp-millis", "local-timestamp-millis":
		return time.UnixMilli(number).UTC(), nil
	case "timestamp-micros", "local-timestamp-micros":
		return time.UnixMicro(number).UTC(), nil
	}
	if node.Type == "int" && (number < math.MinInt32 || number > math.MaxInt32) {
		return nil, fmt.Errorf("%d is no int: it %w", number, errNotOfType)
	}
	return number, nil
}
