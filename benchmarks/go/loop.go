package main

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	batchSize  = 2000
	daySeconds = 86_400
)

var (
	claimScript = redis.NewScript(`
local out = {}
for i, key in ipairs(KEYS) do
  out[i] = redis.call('SET', key, 'p', 'NX', 'EX', ARGV[1]) and 1 or 0
end
return out`)
	completeScript = redis.NewScript(`for _, key in ipairs(KEYS) do redis.call('SET', key, 'c', 'EX', ARGV[1]) end return 1`)
)

// loop is the best batch loop one writes by hand, stage by stage as in Python:
// claim a batch, handle and publish it, complete it, commit.
func loop(ctx context.Context, j job) (*stopwatch, error) {
	client, err := j.client()
	if err != nil {
		return nil, err
	}
	defer client.Close()
	address, err := redis.ParseURL(j.redis)
	if err != nil {
		return nil, err
	}
	store := redis.NewClient(address)
	defer store.Close()
	b, err := newBatch(j, client)
	if err != nil {
		return nil, err
	}
	watch := &stopwatch{}
	for watch.records < j.records {
		fetched := client.PollRecords(ctx, batchSize)
		if err := fetched.Err(); err != nil {
			return nil, err
		}
		records := fetched.Records()
		if len(records) == 0 {
			continue
		}
		watch.begin()
		done, err := b.handle(ctx, store, records)
		if err != nil {
			return nil, err
		}
		if err := client.CommitRecords(ctx, records...); err != nil {
			return nil, err
		}
		watch.did(len(records), done)
	}
	return watch, nil
}

type batch struct {
	job     job
	client  *kgo.Client
	orders  orders
	payment func(payment) ([]byte, error)
}

func newBatch(j job, client *kgo.Client) (*batch, error) {
	in, err := j.orders()
	if err != nil {
		return nil, err
	}
	out, err := j.schema("shop.PaymentCaptured", 1)
	if err != nil {
		return nil, err
	}
	encode := func(p payment) ([]byte, error) { return out.AppendEncode([]byte{0, 0, 0, 0, 3}, p) }
	return &batch{j, client, in, encode}, nil
}

// handle does everything but the commit; it returns how many were not duplicates.
func (b *batch) handle(ctx context.Context, store *redis.Client, records []*kgo.Record) (int, error) {
	keys := make([]string, len(records))
	for i, record := range records {
		keys[i] = b.job.name + ":" + header(record, "ce_id")
	}
	granted, err := claimScript.Run(ctx, store, keys, daySeconds).Int64Slice()
	if err != nil {
		return 0, err
	}
	mine := keys[:0:0]
	results := make([]*kgo.Record, 0, len(records))
	for i, record := range records {
		if granted[i] == 0 {
			continue
		}
		result, err := b.result(record)
		if err != nil {
			return 0, err
		}
		mine = append(mine, keys[i])
		results = append(results, result)
	}
	if err := b.client.ProduceSync(ctx, results...).FirstErr(); err != nil {
		return 0, err
	}
	if len(mine) > 0 {
		err = completeScript.Run(ctx, store, mine, daySeconds).Err()
	}
	return len(mine), ignoreNil(err)
}

func (b *batch) result(record *kgo.Record) (*kgo.Record, error) {
	var o order
	if err := b.orders.decode(record.Value, &o); err != nil {
		return nil, err
	}
	value, err := b.payment(answer(&o))
	if err != nil {
		return nil, err
	}
	return &kgo.Record{Topic: b.job.results, Key: []byte(o.CustomerID), Value: value}, nil
}

func ignoreNil(err error) error {
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}
