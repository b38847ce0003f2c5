package main

// KEDA's calls in time, for many ScaledObjects, and what the broker counts meanwhile.
//
// Each ScaledObject is polled every pollingInterval; while it has replicas, the HPA asks every syncInterval, too. Both ask for
// the target, then for value and activity (pkg/scaling/scale_handler.go). KEDA counts the first from the object's creation and
// Kubernetes the second from the HPA's, so the objects' timers are spread, here at random with a fixed seed.

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/kedacore/keda/v2/pkg/scalers"
)

const (
	pollingInterval = 30 * time.Second
	syncInterval    = 15 * time.Second
	// phaseMargin keeps every call away from the moments at which the counters are read, which are multiples of both
	// intervals: otherwise a call could count on one side and, some milliseconds off, not on the other.
	phaseMargin = 750 * time.Millisecond
	// countersDelay: a call on a busy machine is late, never early. So the counters are read just before the first call after
	// that moment is due, and the last one before it has had nearly twice phaseMargin.
	countersDelay = phaseMargin - 100*time.Millisecond
	// callPatience is far beyond what any answer should take; KEDA itself sets no deadline.
	callPatience = 20 * time.Second
)

type timing struct {
	warmUp, duration time.Duration
	seed             uint64
}

func (t timing) total() time.Duration { return t.warmUp + t.duration }

// measured is one side of a cell.
type measured struct {
	// Operations and Credits are the administration's, a minute.
	Operations float64 `json:"operationsPerMinute"`
	Credits    float64 `json:"creditsPerMinute"`
	// Kinds are operations a minute by kind.
	Kinds map[string]float64 `json:"kinds"`
	// Answers is how many polls and syncs there were, Failed how many of them got a wrong answer or an error; warm-up apart.
	Answers       int    `json:"answers"`
	Failed        int    `json:"failed"`
	WarmUpAnswers int    `json:"warmUpAnswers"`
	WarmUpFailed  int    `json:"warmUpFailed"`
	FirstFailure  string `json:"firstFailure,omitempty"`
	// MedianMilliseconds and P99Milliseconds are for value and activity together, while measured.
	MedianMilliseconds float64 `json:"medianMilliseconds"`
	P99Milliseconds    float64 `json:"p99Milliseconds"`
	// ReadingsWithinGoal is the share of readings no older than readingAgeGoal; of the scaler's side only.
	ReadingsWithinGoal *float64 `json:"readingsWithinGoal,omitempty"`

	median, p99 time.Duration
}

// tape collects the answers of all ScaledObjects.
type tape struct {
	sync.Mutex
	measured
	took []time.Duration
}

// measure runs one side through the warm-up and the measurement.
func measure(ctx context.Context, build builder, objects []*kedaConfig, cell cell, times timing, meters meters) (measured, error) {
	asked := make([]scalers.Scaler, len(objects))
	for index, config := range objects {
		scaler, err := build(ctx, config)
		if err != nil {
			return measured{}, err
		}
		// A scaler that is measured out must not keep its connection.
		defer scaler.Close(context.WithoutCancel(ctx))
		asked[index] = scaler
	}
	phases := rand.New(rand.NewPCG(times.seed, uint64(cell.Objects)))
	began := time.Now()
	from, to := began.Add(times.warmUp), began.Add(times.total())
	var tape tape
	var askers sync.WaitGroup
	for _, scaler := range asked {
		timers := timersOf(phases, cell.Busy, began)
		askers.Go(func() { tape.askUntil(ctx, scaler, timers, cell.reading(), from, to) })
	}
	read, countErr := meters.between(ctx, from.Add(countersDelay), to.Add(countersDelay))
	askers.Wait()
	if err := errors.Join(ctx.Err(), countErr); err != nil {
		return measured{}, err
	}
	perMinute := float64(time.Minute) / float64(times.duration)
	found := tape.measured
	counted := read.counts
	found.Operations = float64(counted.Administration.Operations) * perMinute
	found.Credits = float64(counted.Administration.Credits) * perMinute
	found.Kinds = map[string]float64{}
	for kind, tally := range counted.kinds() {
		found.Kinds[kind] = float64(tally) * perMinute
	}
	if read.ages.all > 0 {
		share := read.ages.withinGoal / read.ages.all
		found.ReadingsWithinGoal = &share
	}
	slices.Sort(tape.took)
	found.median, found.p99 = quantile(tape.took, 0.5), quantile(tape.took, 0.99)
	found.MedianMilliseconds = float64(found.median.Microseconds()) / 1000
	found.P99Milliseconds = float64(found.p99.Microseconds()) / 1000
	return found, nil
}

// timer is when the next call is due, and how long until the one after it.
type timer struct {
	next  time.Time
	every time.Duration
}

func timersOf(phases *rand.Rand, busy bool, began time.Time) []timer {
	within := func() time.Duration {
		return phaseMargin + time.Duration(phases.Int64N(int64(syncInterval-2*phaseMargin)))
	}
	// The poll falls into the first or the second half of its interval, away from the middle, too.
	poll := within() + time.Duration(phases.IntN(int(pollingInterval/syncInterval)))*syncInterval
	// Drawn for idle objects too, so that their polls are the busy ones'.
	sync := within()
	timers := []timer{{began.Add(poll), pollingInterval}}
	if busy {
		timers = append(timers, timer{began.Add(sync), syncInterval})
	}
	return timers
}

// askUntil asks one ScaledObject's scaler whenever one of its timers is due, one call after the other as KEDA does.
func (t *tape) askUntil(ctx context.Context, scaler scalers.Scaler, timers []timer, wanted string, from, to time.Time) {
	for {
		due := slices.MinFunc(indexes(timers), func(a, b int) int { return timers[a].next.Compare(timers[b].next) })
		at := timers[due].next
		if !at.Before(to) {
			return
		}
		timers[due].next = at.Add(timers[due].every)
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(at)):
		}
		callCtx, cancel := context.WithTimeout(ctx, callPatience)
		began := time.Now()
		said := poll(callCtx, scaler, 0)
		took := time.Since(began)
		cancel()
		t.note(said, wanted, took, !at.Before(from))
	}
}

func indexes(timers []timer) []int {
	all := make([]int, len(timers))
	for index := range all {
		all[index] = index
	}
	return all
}

func (t *tape) note(said answer, wanted string, took time.Duration, measuring bool) {
	t.Lock()
	defer t.Unlock()
	answers, failed := &t.WarmUpAnswers, &t.WarmUpFailed
	if measuring {
		answers, failed = &t.Answers, &t.Failed
		t.took = append(t.took, took)
	}
	*answers++
	if said.reading != wanted {
		*failed++
		if t.FirstFailure == "" {
			t.FirstFailure = said.reading + " instead of " + wanted + because(said)
		}
	}
}

// quantile of sorted values, by the nearest rank.
func quantile(sorted []time.Duration, share float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(share*float64(len(sorted))), len(sorted)-1)]
}
