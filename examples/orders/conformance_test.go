package main

import (
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"github.com/twmb/avro"
)

// ask puts one question to the adapter and returns its answer.
func ask(t *testing.T, question string) map[string]any {
	t.Helper()
	var out strings.Builder
	adapter := newConformance()
	if err := adapter.serve(strings.NewReader(question+"\n"), &out); err != nil {
		t.Fatal(err)
	}
	var answer map[string]any
	if err := json.Unmarshal([]byte(out.String()), &answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

const amountSchema = `{\"type\":\"record\",\"name\":\"A\",\"fields\":[{\"name\":\"amount\",\"type\":[\"null\",` +
	`{\"type\":\"bytes\",\"logicalType\":\"decimal\",\"precision\":4,\"scale\":2}]}]}`

func TestQuestionsOfTheConformanceKitAreAnswered(t *testing.T) {
	for question, want := range map[string]any{
		`"do":"decode","schema_id":7,"schema":"` + amountSchema + `","hex":"0000000007020280"`:   map[string]any{"amount": "-1.28"},
		`"do":"encode","schema_id":7,"schema":"` + amountSchema + `","value":{"amount":"-1.28"}`: "0000000007020280",
		`"do":"partition","key_hex":"3231","partitions":4`:                                       float64(0),
		`"do":"dance"`: "not known here: dance",
	} {
		answer := ask(t, `{"id":1,`+question+`}`)
		delete(answer, "id")
		for _, got := range answer {
			gotText, _ := json.Marshal(got)
			wantText, _ := json.Marshal(want)
			if string(gotText) != string(wantText) {
				t.Errorf("%s: got %s, want %s", question, gotText, wantText)
			}
		}
	}
}

func TestWhatTheLibraryAloneWouldTakeIsRefused(t *testing.T) {
	text := `{\"type\":\"record\",\"name\":\"A\",\"fields\":[{\"name\":\"id\",\"type\":{\"type\":\"string\",\"logicalType\":\"uuid\"}}]}`
	for _, question := range []string{
		`"do":"encode","schema_id":7,"schema":"` + text + `","value":{"id":"hello"}`,
		`"do":"decode","schema_id":7,"schema":"` + text + `","hex":"000000000704c328"`,
		`"do":"decode","schema_id":7,"schema":"` + amountSchema + `","hex":"0000000007020601e240"`,
		`"do":"encode","schema_id":7,"schema":"` + amountSchema + `","value":{"amount":"1.234"}`,
	} {
		if answer := ask(t, `{"id":1,`+question+`}`); answer["error"] == nil {
			t.Errorf("%s: got %v, want an error", question, answer)
		}
	}
}

// Where one of these fails, the library has learned it and a guard of
// json_form.go could go.
func TestWhatTheLibraryAloneTakes(t *testing.T) {
	id := avro.MustParse(`{"type":"string","logicalType":"uuid"}`)
	if _, err := id.Encode("hello"); err != nil {
		t.Errorf("a text that is no UUID: %s", err)
	}
	var value any
	if _, err := avro.MustParse(`"string"`).Decode([]byte{4, 0xc3, 0x28}, &value); err != nil {
		t.Errorf("a text that is no UTF-8: %s", err)
	}
	amount := avro.MustParse(`{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}`)
	if _, err := amount.Decode([]byte{6, 1, 0xe2, 0x40}, &value); err != nil {
		t.Errorf("a decimal of six digits where four fit: %s", err)
	}
	if _, err := amount.Encode(big.NewRat(1234, 1000)); err == nil {
		t.Error("a decimal of three digits after the point is written: the guide says it is not")
	}
}
