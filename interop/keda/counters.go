package main

// What is counted while a cell is measured: the broker's operations and credits, from its control endpoint, and the ages of
// the readings that our scaler answered with, from its metrics.

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	counterPatience = 5 * time.Second
	// maxCountersBytes is far beyond what either program answers.
	maxCountersBytes = 4 << 20
)

// readingAgeGoal: the scaler's histogram has a bucket that ends there.
const readingAgeGoal = cacheTTL + time.Second

const readingAgeMetric = "servicebus_scaler_reading_age_seconds"

// meters are where to read, host:port. The scaler's is empty while the built-in is measured.
type meters struct {
	broker, scaler string
}

type tally struct {
	Operations int64 `json:"operations"`
	Credits    int64 `json:"credits"`
}

type counts struct {
	Administration tally                       `json:"administration"`
	Operations     map[string]map[string]tally `json:"operations"`
}

// reading is what the meters showed at one moment.
type reading struct {
	counts counts
	ages   ages
}

// ages are readings that our scaler answered with: all, and those no older than readingAgeGoal.
type ages struct {
	all, withinGoal float64
}

// between reads at both moments and gives the difference.
func (m meters) between(ctx context.Context, from, to time.Time) (reading, error) {
	before, err := m.at(ctx, from)
	if err != nil {
		return reading{}, err
	}
	after, err := m.at(ctx, to)
	if err != nil {
		return reading{}, err
	}
	return reading{
		counts: after.counts.minus(before.counts),
		ages:   ages{after.ages.all - before.ages.all, after.ages.withinGoal - before.ages.withinGoal},
	}, nil
}

func (m meters) at(ctx context.Context, moment time.Time) (reading, error) {
	var read reading
	select {
	case <-ctx.Done():
		return read, ctx.Err()
	case <-time.After(time.Until(moment)):
	}
	counted, err := fetch(ctx, "http://"+m.broker+"/$counters")
	if err != nil {
		return read, fmt.Errorf("the broker's counters: %w", err)
	}
	if err := json.Unmarshal(counted, &read.counts); err != nil {
		return read, fmt.Errorf("the broker's counters: %w", err)
	}
	if m.scaler == "" {
		return read, nil
	}
	metrics, err := fetch(ctx, "http://"+m.scaler+"/metrics")
	if err != nil {
		return read, fmt.Errorf("the scaler's metrics: %w", err)
	}
	read.ages, err = agesOf(string(metrics))
	return read, err
}

func fetch(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, counterPatience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, response.Status)
	}
	return io.ReadAll(io.LimitReader(response.Body, maxCountersBytes))
}

// agesOf reads two numbers out of a Prometheus exposition.
func agesOf(exposition string) (ages, error) {
	value := func(series string) (float64, error) {
		for line := range strings.Lines(exposition) {
			if rest, found := strings.CutPrefix(line, series+" "); found {
				number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
				return strconv.ParseFloat(number, 64)
			}
		}
		return 0, fmt.Errorf("the scaler's metrics have no %s", series)
	}
	all, err := value(readingAgeMetric + "_count")
	if err != nil {
		return ages{}, err
	}
	within, err := value(fmt.Sprintf(`%s_bucket{le="%.1f"}`, readingAgeMetric, readingAgeGoal.Seconds()))
	return ages{all, within}, err
}

func (t tally) minus(before tally) tally {
	return tally{t.Operations - before.Operations, t.Credits - before.Credits}
}

func (c counts) minus(before counts) counts {
	difference := counts{Administration: c.Administration.minus(before.Administration), Operations: map[string]map[string]tally{}}
	for kind, outcomes := range c.Operations {
		difference.Operations[kind] = map[string]tally{}
		for outcome, now := range outcomes {
			difference.Operations[kind][outcome] = now.minus(before.Operations[kind][outcome])
		}
	}
	return difference
}

// kinds are the administration's operations by kind, and by outcome if it is not "ok".
func (c counts) kinds() map[string]int64 {
	kinds := map[string]int64{}
	for kind, outcomes := range c.Operations {
		for outcome, tally := range outcomes {
			switch {
			case tally.Operations == 0:
			case outcome == "ok":
				kinds[kind] = tally.Operations
			default:
				kinds[kind+" "+outcome] = tally.Operations
			}
		}
	}
	return kinds
}
