package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

// runOrders runs a command line as main does.
func runOrders(args ...string) (status int, out, log string) {
	var stdout, stderr bytes.Buffer
	status = run(context.Background(), args, streams{out: &stdout, log: &stderr})
	return status, stdout.String(), stderr.String()
}

func TestBadUsageIsOneLineAndStatus2(t *testing.T) {
	for _, line := range []string{
		"", "bogus", "produce --bogus", "produce extra", "produce --count 0", "produce --count many",
		"produce --rate -1", "produce --rate NaN", "produce --topic=", "produce --schemas no-such-dir",
		"produce --brokers host:port", "produce --brokers=", "produce --delivery-timeout-s 0",
		"produce --schemas ../../schemas --manifest no-such-dir/m.jsonl",
		"consume", "consume --topic=", "consume --topic t --max 0", "consume --topic t --timeout-s 0",
		"golden --schemas no-such-dir", "produce-golden", "produce-golden --topic t --schemas no-such-dir",
		"registry-produce", "registry-produce --topic t --schemas no-such-dir", "registry-consume",
		"registry-produce --topic t --schemas ../../schemas --subject none",
	} {
		t.Run(line, func(t *testing.T) {
			status, out, log := runOrders(strings.Fields(line)...)
			if status != exitUsage || out != "" || strings.Count(log, "\n") != 1 || !strings.HasPrefix(log, "orders") {
				t.Errorf("status %d, out %q, log %q", status, out, log)
			}
		})
	}
}

func TestHelpNamesEveryFlag(t *testing.T) {
	status, overview, _ := runOrders("--help")
	if status != exitOK {
		t.Errorf("status %d", status)
	}
	for _, c := range commands {
		if !strings.Contains(overview, c.name) {
			t.Errorf("the overview lacks %s", c.name)
		}
		status, out, log := runOrders(c.name, "--help")
		hasFlag := strings.Contains(out, "--schemas DIR") || strings.Contains(out, "--registry URL")
		if status != exitOK || log != "" || !hasFlag && c.name != "conformance" { // which is told all it needs on stdin
			t.Errorf("%s --help: status %d, out %q, log %q", c.name, status, out, log)
		}
	}
}

func TestKafkaThatIsNotThereIsAFailure(t *testing.T) {
	// Port 1 on loopback: nothing listens there.
	status, _, log := runOrders("consume", "--brokers", "127.0.0.1:1", "--topic", "t", "--schemas", schemasDir)
	if status != exitFailure || !strings.Contains(log, "cannot reach Kafka at 127.0.0.1:1") {
		t.Errorf("status %d, log %q", status, log)
	}
}

func TestGoldenCommandPrintsALineAVector(t *testing.T) {
	status, out, log := runOrders("golden", "--schemas", schemasDir)
	if status != exitOK || log != "" || !strings.Contains(out, "same     order-placed-v1\n") {
		t.Errorf("status %d, out %q, log %q", status, out, log)
	}
}
