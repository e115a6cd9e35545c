package main

import (
	"flag"
	"fmt"
	"io"
	"strings"
)

// newFlagSet returns a flag set that prints nothing by itself, so that a
// mistake costs the reader one line, not a page.
func newFlagSet(name string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	return flags
}

func printOverview(w io.Writer) {
	fmt.Fprint(w, "orders: the example order service (Go, Kafka, Avro)\n\nUsage: orders SUBCOMMAND [flags]\n\n")
	for _, c := range commands {
		fmt.Fprintf(w, "  %-16s %s\n", c.name, c.summary)
	}
	fmt.Fprint(w, "\nExit status: 0 done; 1 failed; 2 bad usage or bad input; 3 timed out; 130 interrupted.\n",
		"Flags of a subcommand: orders SUBCOMMAND --help\n")
}

func printHelp(w io.Writer, c command, flags *flag.FlagSet) {
	fmt.Fprintf(w, "orders %s: %s\n\nFlags:\n", c.name, c.summary)
	flags.VisitAll(func(f *flag.Flag) {
		placeholder, text := flag.UnquoteUsage(f)
		fmt.Fprintf(w, "  %-24s %s", "--"+f.Name+" "+placeholder, text)
		if f.DefValue != "" {
			fmt.Fprintf(w, " (default %s)", f.DefValue)
		}
		fmt.Fprintln(w)
	})
}

// stringList is a flag that may be given more than once.
type stringList []string

func (l *stringList) String() string { return strings.Join(*l, ",") }

func (l *stringList) Set(value string) error {
	if value == "" {
		return fmt.Errorf("must not be empty")
	}
	*l = append(*l, value)
	return nil
}

// brokersFlag registers --brokers: a comma separated list of host:port.
func brokersFlag(flags *flag.FlagSet) *string {
	return flags.String("brokers", "127.0.0.1:9092", "Kafka bootstrap servers, `HOST:PORT,...`")
}

// schemasFlag registers --schemas: the directory that holds the contracts.
func schemasFlag(flags *flag.FlagSet) *string {
	return flags.String("schemas", "schemas", "directory `DIR` with ids.jsonl, <subject>/v<N>.avsc and golden/")
}
