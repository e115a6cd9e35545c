package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// forward posts every order to the service, j.concurrency at a time, and
// commits batch by batch. It claims nothing and keeps no order.
func forward(ctx context.Context, j job) (*stopwatch, error) {
	client, err := j.client()
	if err != nil {
		return nil, err
	}
	defer client.Close()
	in, err := j.orders()
	if err != nil {
		return nil, err
	}
	p := &poster{j.url, in, &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: j.concurrency}}}
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
		if err := p.postAll(ctx, records, j.concurrency); err != nil {
			return nil, err
		}
		if err := client.CommitRecords(ctx, records...); err != nil {
			return nil, err
		}
		watch.did(len(records), len(records))
	}
	return watch, nil
}

type poster struct {
	url    string
	orders orders
	client *http.Client
}

func (p *poster) postAll(ctx context.Context, records []*kgo.Record, concurrency int) error {
	work := make(chan *kgo.Record)
	failed := make(chan error, concurrency)
	var running sync.WaitGroup
	for range concurrency {
		running.Go(func() {
			for record := range work {
				if err := p.post(ctx, record); err != nil {
					select {
					case failed <- err:
					default:
					}
				}
			}
		})
	}
	for _, record := range records {
		work <- record
	}
	close(work)
	running.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

func (p *poster) post(ctx context.Context, record *kgo.Record) error {
	var o order
	if err := p.orders.decode(record.Value, &o); err != nil {
		return err
	}
	body, err := json.Marshal(o)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	id := header(record, "ce_id")
	for name, value := range map[string]string{
		"Content-Type": "application/json", "ce-specversion": "1.0", "ce-id": id,
		"ce-source": header(record, "ce_source"), "ce-type": header(record, "ce_type"),
		"ce-time": header(record, "ce_time"), "ce-subject": header(record, "ce_subject"),
		"Idempotency-Key": id, "bridge-attempt": "1", "bridge-crashes": "0", "bridge-token": "1",
		"bridge-origin": fmt.Sprintf("%s/%d/%d", record.Topic, record.Partition, record.Offset),
	} {
		request.Header.Set(name, value)
	}
	answer, err := p.client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", answer.StatusCode)
	}
	var captured map[string]any
	err = json.NewDecoder(answer.Body).Decode(&captured)
	io.Copy(io.Discard, answer.Body)
	return err
}
