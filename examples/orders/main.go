// Command orders is the order service of the broker_bridge examples: a Go
// program that takes part in the buffer with its own Kafka client, by keeping
// to the wire contract (Avro in a framed value, CloudEvents in the headers,
// the customer as the key).
//
// Run "orders --help" for its subcommands; README.md shows each at work.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// Exit statuses, the same for every subcommand.
const (
	exitOK          = 0
	exitFailure     = 1   // it was asked correctly, and went wrong
	exitUsage       = 2   // it was asked wrongly: flags, or files it was pointed at
	exitTimeout     = 3   // consume: fewer records than asked for
	exitInterrupted = 130 // stopped by a signal, after an orderly flush
)

var (
	errTimeout     = errors.New("timed out")
	errInterrupted = errors.New("interrupted")
)

// usageError marks what the caller has to change before trying again.
type usageError struct{ message string }

func (e usageError) Error() string { return e.message }

func badUsage(format string, args ...any) error {
	return usageError{fmt.Sprintf(format, args...)}
}

// streams are where a command writes: results to out, progress to log.
type streams struct {
	out io.Writer
	log io.Writer
}

// command is one subcommand. define registers its flags and returns the
// function that runs it once they are parsed.
type command struct {
	name    string
	summary string
	define  func(flags *flag.FlagSet) func(ctx context.Context, io streams) error
}

var commands = []command{
	{"produce", "write a stream of orders, with duplicates and poison, and a manifest of what Kafka acknowledged", defineProduce},
	{"produce-golden", "write the golden vectors to a topic, encoded here from their JSON values", defineProduceGolden},
	{"registry-produce", "write golden vectors under ids that a schema registry gives, with franz-go's own client", defineRegistryProduce},
	{"registry-consume", "read topics and print values decoded with the registry's schemas", defineRegistryConsume},
	{"consume", "read topics from the beginning and print every record as one JSON line", defineConsume},
	{"conformance", "answer the questions of `broker-bridge schemas conformance` on stdin", defineConformance},
	{"golden", "check this program's encoding, headers and partitioner against the golden vectors", defineGolden},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once, should the orderly way hang.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], streams{out: os.Stdout, log: os.Stderr}))
}

// run executes one command line and returns its exit status.
func run(ctx context.Context, args []string, io streams) int {
	if len(args) == 0 {
		fmt.Fprintln(io.log, "orders: a subcommand is needed; see orders --help")
		return exitUsage
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		printOverview(io.out)
		return exitOK
	}
	for _, c := range commands {
		if c.name == args[0] {
			return runCommand(ctx, c, args[1:], io)
		}
	}
	fmt.Fprintf(io.log, "orders: unknown subcommand %q; see orders --help\n", args[0])
	return exitUsage
}

func runCommand(ctx context.Context, c command, args []string, io streams) int {
	flags := newFlagSet(c.name)
	execute := c.define(flags)
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		printHelp(io.out, c, flags)
		return exitOK
	}
	switch {
	case err != nil:
		err = badUsage("%s; see orders %s --help", err, c.name)
	case flags.NArg() > 0:
		err = badUsage("unexpected argument %q; see orders %s --help", flags.Arg(0), c.name)
	default:
		err = execute(ctx, io)
	}
	if err != nil {
		fmt.Fprintf(io.log, "orders %s: %s\n", c.name, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return exitStatus(err)
}

func exitStatus(err error) int {
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, errTimeout):
		return exitTimeout
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	}
	return exitFailure
}
