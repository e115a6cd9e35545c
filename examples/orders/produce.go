package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"time"
)

type produceOptions struct {
	plan            Plan
	brokers         string
	topic           string
	schemas         string
	manifest        string
	rate            float64
	deliveryTimeout time.Duration
}

func defineProduce(flags *flag.FlagSet) func(context.Context, streams) error {
	var o produceOptions
	var deliverySeconds float64
	brokers, schemas := brokersFlag(flags), schemasFlag(flags)
	flags.StringVar(&o.topic, "topic", "orders.placed", "`TOPIC` to write to; it must exist")
	flags.StringVar(&o.manifest, "manifest", "", "`FILE` for one JSON line per acknowledged record; overwritten")
	flags.IntVar(&o.plan.Count, "count", 20000, "number `N` of different events, rejected and poison ones included")
	flags.Float64Var(&o.rate, "rate", 1000, "events per second, `R`; 0 is as fast as possible")
	flags.IntVar(&o.plan.Customers, "customers", 500, "number `N` of customers, which are the keys")
	flags.Uint64Var(&o.plan.Seed, "seed", 7, "random seed `N`: equal seeds give equal orders in equal order")
	flags.StringVar(&o.plan.IDPrefix, "id-prefix", "o", "`TEXT` that begins every order id")
	flags.Float64Var(&o.plan.DeployV2After, "deploy-v2-after", 0.5, "deploy schema version 2 after this `SHARE` of the stream")
	flags.Float64Var(&o.plan.Duplicates, "duplicates", 0.01, "send this `SHARE` of the events a second time, 10 to 200 events later")
	flags.IntVar(&o.plan.PoisonBytes, "poison-bytes", 20, "`N` of the events have a value that is no framed Avro, or is cut short")
	flags.IntVar(&o.plan.PoisonSchemaID, "poison-schema-id", 20, "`N` of the events are framed with a schema id nobody knows")
	flags.IntVar(&o.plan.Rejected, "rejected", 40, "`N` of the events are valid orders that payments refuses (note "+noteDeclined+")")
	flags.Float64Var(&deliverySeconds, "delivery-timeout-s", 120, "fail when a record has no acknowledgement after `S` seconds")
	return func(ctx context.Context, io streams) error {
		o.brokers, o.schemas = *brokers, *schemas
		o.deliveryTimeout = time.Duration(deliverySeconds * float64(time.Second))
		return produce(ctx, o, io)
	}
}

func (o produceOptions) validate() error {
	switch {
	case o.topic == "":
		return badUsage("--topic must not be empty")
	case !(o.rate >= 0):
		return badUsage("--rate must be 0 or more, not %v", o.rate)
	case o.deliveryTimeout < time.Second:
		return badUsage("--delivery-timeout-s must be 1 or more")
	}
	if err := checkBrokers(o.brokers); err != nil {
		return err
	}
	return o.plan.validate()
}

// produce sends the whole stream and reports what Kafka acknowledged. Any
// record that Kafka does not acknowledge makes it an error.
func produce(ctx context.Context, o produceOptions, io streams) (err error) {
	if err := o.validate(); err != nil {
		return err
	}
	catalog, err := loadCatalog(o.schemas)
	if err != nil {
		return err
	}
	maker, err := newRecordMaker(o.topic, catalog)
	if err != nil {
		return err
	}
	manifest, err := createManifest(o.manifest)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, manifest.close()) }()

	service := &service{options: o, maker: maker, manifest: manifest, tally: newTally(o.plan), log: io.log}
	stopReporting := service.tally.reportEverySecond(io.log)
	err = service.sendAll(ctx)
	stopReporting()
	summary := service.tally.summary(o.topic, ctx.Err() != nil)
	return errors.Join(err, json.NewEncoder(io.out).Encode(summary))
}
