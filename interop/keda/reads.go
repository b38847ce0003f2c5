package main

// What the readings cost: the same ScaledObjects, asked in KEDA's pattern, through the built-in trigger and through our
// scaler, on the same broker, which counts the operations and their credits.

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// Goals for the whole table (ours against the built-in's), and at the 500 busy ScaledObjects.
const (
	goalObjects       = 500
	goalDistinctTimes = 40.0
	goalOneQueueTimes = 200.0
	// goalReadingsWithin is the share of readings that must be no older than readingAgeGoal.
	goalReadingsWithin = 0.99
)

type readsCommand struct {
	programs programs
	quick    bool
	objects  countsFlag
	layouts  layoutsFlag
	duration time.Duration
	warmUp   time.Duration
	atOnce   int
	seed     uint64
	jsonFile string
}

// countsFlag and layoutsFlag are lists, comma-separated.
type (
	countsFlag  []int
	layoutsFlag []layout
)

func (c *readsCommand) register(flags *flag.FlagSet) {
	c.objects = countsFlag{1, 10, 100, 500}
	c.layouts = layoutsFlag(allLayouts)
	c.programs.register(flags)
	flags.BoolVar(&c.quick, "quick", false, "only the cells that goals are set for, measured for one polling interval")
	flags.Var(&c.objects, "objects", "numbers of ScaledObjects, comma-separated")
	flags.Var(&c.layouts, "layouts", "what they read, comma-separated: "+layoutNames())
	flags.DurationVar(&c.duration, "duration", 60*time.Second, "how long to measure each side of a cell: a multiple of 30s")
	flags.DurationVar(&c.warmUp, "warm-up", pollingInterval, "how long to ask before measuring: a multiple of 30s")
	flags.IntVar(&c.atOnce, "parallel", 4, "cells measured at the same time, each with a broker and a scaler of its own")
	flags.Uint64Var(&c.seed, "seed", 1, "seed of the phases by which the ScaledObjects' timers are spread")
	flags.StringVar(&c.jsonFile, "json", "", "also write the results to this file, as JSON")
}

func (c *readsCommand) check() error {
	for name, duration := range map[string]time.Duration{"duration": c.duration, "warm-up": c.warmUp} {
		if duration < pollingInterval || duration%pollingInterval != 0 {
			return fmt.Errorf("--%s: %v is not a multiple of %v", name, duration, pollingInterval)
		}
	}
	if c.atOnce < 1 {
		return fmt.Errorf("--parallel: %d is not 1 or more", c.atOnce)
	}
	return c.programs.check()
}

func (c *readsCommand) cells() []cell {
	if c.quick {
		return []cell{
			{goalObjects, distinctQueues, true},
			{goalObjects, oneQueue, true},
			{goalObjects, subscriptions, true},
			{goalObjects, subscriptionsWide, true},
			{1, oneQueue, true},
			{1, oneQueue, false},
		}
	}
	var cells []cell
	for _, objects := range c.objects {
		for _, layout := range c.layouts {
			for _, busy := range []bool{false, true} {
				cells = append(cells, cell{objects, layout, busy})
			}
		}
	}
	return cells
}

func (c *readsCommand) run(ctx context.Context) (good bool, err error) {
	site, err := newSite(c.programs)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, site.remove()) }()
	cells := c.cells()
	if c.quick {
		c.duration, c.atOnce = pollingInterval, len(cells)
	}
	times := timing{warmUp: c.warmUp, duration: c.duration, seed: c.seed}
	rounds := (len(cells) + c.atOnce - 1) / c.atOnce
	fmt.Fprintf(os.Stderr, "KEDA %s: %d cells, %d at once, about %v\n", kedaVersion, len(cells), c.atOnce, 2*time.Duration(rounds)*times.total())
	results := make([]result, len(cells))
	lanes, laneCtx := errgroup.WithContext(ctx)
	lanes.SetLimit(c.atOnce)
	for index, cell := range cells {
		lanes.Go(func() (err error) {
			if laneCtx.Err() != nil {
				return laneCtx.Err()
			}
			results[index], err = measureCell(laneCtx, site, fmt.Sprintf("cell-%02d", index), cell, times)
			if err != nil {
				return fmt.Errorf("%v: %w", cell, err)
			}
			fmt.Fprintf(os.Stderr, "%v: %.0f and %.0f operations a minute\n", cell, results[index].Builtin.Operations, results[index].Scaler.Operations)
			return nil
		})
	}
	if err := lanes.Wait(); err != nil {
		return false, err
	}
	goals := goalsOf(results)
	fmt.Print(markdown(results, goals))
	if c.jsonFile != "" {
		if err := writeJSON(c.jsonFile, times, results, goals); err != nil {
			return false, err
		}
	}
	return !slices.ContainsFunc(goals, func(goal goal) bool { return !goal.Met }), nil
}

// result is one cell's, both sides.
type result struct {
	cell
	Builtin measured `json:"builtin"`
	Scaler  measured `json:"scaler"`
}

// times says how many times fewer operations ours makes.
func (r result) times() float64 { return r.Builtin.Operations / max(r.Scaler.Operations, 1e-9) }

// isOld says whether too many of the scaler's readings were older than they may be.
func (r result) isOld() bool {
	share := r.Scaler.ReadingsWithinGoal
	return share == nil || *share < goalReadingsWithin && !r.isStretched()
}

// freshness is the share of readings that were young enough, for people.
func (m measured) freshness() string {
	if m.ReadingsWithinGoal == nil {
		return "not said"
	}
	return fmt.Sprintf("%.1f %%", 100**m.ReadingsWithinGoal)
}

// measureCell measures first the built-in, then ours, on one broker.
func measureCell(ctx context.Context, site *site, name string, cell cell, times timing) (found result, err error) {
	processes, err := site.start(ctx, name, cell.scalerConfig())
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, processes.stop(ctx)) }()
	if err := processes.entities.makeAll(ctx, cell.queues(), cell.topics()); err != nil {
		return found, err
	}
	found.cell = cell
	objects := cell.scaledObjects(processes.connectionString)
	counters := meters{broker: processes.brokerAddress}
	if found.Builtin, err = measure(ctx, newBuiltin, objects, cell, times, counters); err != nil {
		return found, fmt.Errorf("the built-in: %w", err)
	}
	counters.scaler = processes.scalerMetrics
	if found.Scaler, err = measure(ctx, external(processes.scalerAddress), objects, cell, times, counters); err != nil {
		return found, fmt.Errorf("the scaler: %w", err)
	}
	return found, nil
}

// goal is something that the results must show.
type goal struct {
	Text string `json:"text"`
	Met  bool   `json:"met"`
}

func goalsOf(results []result) []goal {
	var goals []goal
	add := func(met bool, format string, arguments ...any) {
		goals = append(goals, goal{Text: fmt.Sprintf(format, arguments...), Met: met})
	}
	for _, result := range results {
		for _, side := range []struct {
			name     string
			isScaler bool
			measured
		}{{"built-in", false, result.Builtin}, {"scaler", true, result.Scaler}} {
			if side.Failed > 0 || side.Answers == 0 {
				add(false, "%v: the %s gave %d wrong answers or errors of %d: %s", result.cell, side.name, side.Failed, side.Answers, side.FirstFailure)
			}
			if side.WarmUpFailed > 0 && !(side.isScaler && result.isStretched()) {
				add(false, "%v: the %s gave %d wrong answers or errors of %d while warming up: %s", result.cell, side.name, side.WarmUpFailed, side.WarmUpAnswers, side.FirstFailure)
			}
		}
		if result.Scaler.Credits > result.Builtin.Credits {
			add(false, "%v: %.0f credits a minute, more than the built-in's %.0f", result.cell, result.Scaler.Credits, result.Builtin.Credits)
		}
		if result.isOld() {
			add(false, "%v: %s of the readings no older than %v (at least %.0f %%)", result.cell, result.Scaler.freshness(), readingAgeGoal, 100*goalReadingsWithin)
		}
		if result.Objects == goalObjects && result.Busy {
			switch result.Layout {
			case distinctQueues:
				add(result.times() >= goalDistinctTimes, "%v: %.0f times fewer operations (at least %.0f)", result.cell, result.times(), goalDistinctTimes)
			case oneQueue:
				add(result.times() >= goalOneQueueTimes, "%v: %.0f times fewer operations (at least %.0f)", result.cell, result.times(), goalOneQueueTimes)
			}
		}
	}
	add(!slices.ContainsFunc(results, result.isOld), "at least %.0f %% of the readings no older than %v wherever the budget suffices, in %d cells",
		100*goalReadingsWithin, readingAgeGoal, len(results))
	never := !slices.ContainsFunc(results, func(result result) bool { return result.Scaler.Credits > result.Builtin.Credits })
	add(never, "never more credits than the built-in, in %d cells", len(results))
	return goals
}

func markdown(results []result, goals []goal) string {
	var text strings.Builder
	fmt.Fprintf(&text, "Management operations and credits a minute, KEDA %s; built-in / scaler\n\n", kedaVersion)
	fmt.Fprintf(&text, "| ScaledObjects | read | state | operations | credits | times fewer | readings within %v | answer p50 ms | answer p99 ms |\n", readingAgeGoal)
	text.WriteString("|---:|---|---|---:|---:|---:|---:|---:|---:|\n")
	for _, result := range results {
		builtin, ours := result.Builtin, result.Scaler
		fmt.Fprintf(&text, "| %d | %s | %s | %.0f / %.0f | %.0f / %.0f | %.1f | %s | %s / %s | %s / %s |\n",
			result.Objects, result.Layout, result.state(), builtin.Operations, ours.Operations, builtin.Credits, ours.Credits, result.times(), ours.freshness(),
			milliseconds(builtin.median), milliseconds(ours.median), milliseconds(builtin.p99), milliseconds(ours.p99))
	}
	text.WriteString("\n")
	for _, goal := range goals {
		mark := "met"
		if !goal.Met {
			mark = "MISSED"
		}
		fmt.Fprintf(&text, "- %s: %s\n", mark, goal.Text)
	}
	return text.String()
}

func writeJSON(path string, times timing, results []result, goals []goal) error {
	encoded, err := json.MarshalIndent(map[string]any{
		"keda": kedaVersion, "warmUpSeconds": times.warmUp.Seconds(), "seconds": times.duration.Seconds(), "seed": times.seed,
		"pollingIntervalSeconds": pollingInterval.Seconds(), "hpaSyncSeconds": syncInterval.Seconds(),
		"cells": results, "goals": goals,
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(encoded, '\n'), 0o644)
}

func (f *countsFlag) String() string { return fmt.Sprint([]int(*f)) }

func (f *countsFlag) Set(text string) error {
	*f = nil
	for _, word := range strings.Split(text, ",") {
		count, err := strconv.Atoi(word)
		if err != nil || count < 1 || count > topicsOfCell*subscriptionsOfTopic {
			return fmt.Errorf("%q is not a number from 1 to %d", word, topicsOfCell*subscriptionsOfTopic)
		}
		*f = append(*f, count)
	}
	return nil
}

func (f *layoutsFlag) String() string { return fmt.Sprint([]layout(*f)) }

func (f *layoutsFlag) Set(text string) error {
	*f = nil
	for _, word := range strings.Split(text, ",") {
		if !slices.Contains(allLayouts, layout(word)) {
			return fmt.Errorf("%q is not one of %s", word, layoutNames())
		}
		*f = append(*f, layout(word))
	}
	return nil
}
