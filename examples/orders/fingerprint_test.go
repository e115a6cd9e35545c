package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
)

// failureFingerprint is the id of a kind of failure, as every reporter of dead
// letters makes it: codes only, never messages.
func failureFingerprint(code, targetCode string) string {
	sum := sha256.Sum256([]byte("v1\n" + code + "\n" + targetCode))
	return hex.EncodeToString(sum[:])[:12]
}

func TestFailureFingerprints(t *testing.T) {
	raw, err := os.ReadFile("../../schemas/failure-fingerprints.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Vectors []struct {
			Code        string `json:"code"`
			TargetCode  string `json:"target_code"`
			Fingerprint string `json:"fingerprint"`
		} `json:"vectors"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Vectors) == 0 {
		t.Fatal("no vectors")
	}
	for _, want := range file.Vectors {
		if got := failureFingerprint(want.Code, want.TargetCode); got != want.Fingerprint {
			t.Errorf("%q, %q: %s instead of %s", want.Code, want.TargetCode, got, want.Fingerprint)
		}
	}
}
