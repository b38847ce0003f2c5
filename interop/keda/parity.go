package main

// The comparison: every row through KEDA's built-in trigger and through KEDA's client of our scaler.

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// rowPatience is how long one side may take for one row. The built-in's client retries for some seconds before it gives up.
	rowPatience = 30 * time.Second
	// fillersAtOnce is how many entities are made at the same time.
	fillersAtOnce = 8
)

type parityCommand struct {
	programs programs
	only     string
}

func (c *parityCommand) register(flags *flag.FlagSet) {
	c.programs.register(flags)
	flags.StringVar(&c.only, "only", "", "only rows whose name holds this text")
}

func (c *parityCommand) check() error { return c.programs.check() }

func (c *parityCommand) run(ctx context.Context) (good bool, err error) {
	site, err := newSite(c.programs)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, site.remove()) }()
	deadEndpoint, err := endpointOf("Endpoint=" + deadEndpoint)
	if err != nil {
		return false, err
	}
	processes, err := site.start(ctx, "parity", "", deadEndpoint)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, processes.stop(ctx)) }()
	began := time.Now()
	if err := processes.entities.makeAll(ctx, queuesOfTable(), topicsOfTable()); err != nil {
		return false, err
	}
	fmt.Printf("KEDA %s; entities made in %v\n\n", kedaVersion, time.Since(began).Round(time.Millisecond))

	report := &report{}
	for _, row := range rows() {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if strings.Contains(row.name, c.only) {
			report.add(compareRow(ctx, processes, row))
		}
	}
	drawn := check{"patterns drawn at random", compareDrawn}
	for _, change := range changes() {
		if strings.Contains(change.name, c.only) {
			report.add(compareChange(ctx, processes, change))
		}
	}
	for _, check := range append([]check{drawn}, pushChecks...) {
		if strings.Contains(check.name, c.only) {
			report.addCheck(check.name, check.run(ctx, processes))
		}
	}
	return report.finish(), nil
}

func (n *namespace) makeAll(ctx context.Context, queues []queueState, topics []topicState) error {
	makers, ctx := errgroup.WithContext(ctx)
	makers.SetLimit(fillersAtOnce)
	for _, queue := range queues {
		makers.Go(func() error { return n.makeQueue(ctx, queue) })
	}
	for _, topic := range topics {
		makers.Go(func() error { return n.makeTopic(ctx, topic) })
	}
	return makers.Wait()
}

// verdict is what came of one row.
type verdict struct {
	name          string
	builtin, ours answer
	// wanted are the listed differences that were found, problems all that should not be.
	wanted   []difference
	problems []string
	took     time.Duration
}

func compareRow(ctx context.Context, processes *stack, row row) verdict {
	ctx, cancel := context.WithTimeout(ctx, 2*rowPatience)
	defer cancel()
	began := time.Now()
	config := row.config(processes.connectionString)
	builtin := ask(ctx, newBuiltin, config)
	ours := ask(ctx, external(processes.scalerAddress), config)
	return judge(row.name, row.builtin, row.wanted, builtin, ours, time.Since(began))
}

func (r row) config(connectionString string) *kedaConfig {
	if r.connect != nil {
		connectionString = r.connect(connectionString)
	}
	environment := map[string]string{}
	if connectionString != "" {
		environment[connectionVariable] = connectionString
	}
	trigger := r.trigger.with("connectionFromEnv", connectionVariable)
	return triggerConfig(objectName, r.index, r.metricType, trigger, environment)
}

// judge compares both answers with what the row says of them.
func judge(name string, expected answer, listed []difference, builtin, ours answer, took time.Duration) verdict {
	verdict := verdict{name: name, builtin: builtin, ours: ours, took: took}
	wanted := expected
	for _, difference := range listed {
		field := wanted.field(difference.field)
		if *field == difference.ours {
			verdict.problems = append(verdict.problems, fmt.Sprintf("%s: the row lists a difference that is none", difference.field))
		}
		*field = difference.ours
	}
	verdict.problems = append(verdict.problems, deviations("the built-in", builtin, expected)...)
	verdict.problems = append(verdict.problems, deviations("ours", ours, wanted)...)
	if len(verdict.problems) == 0 {
		verdict.wanted = listed
	}
	return verdict
}

// deviations says in which fields an answer is not as it should be.
func deviations(side string, said, should answer) []string {
	if said.metric == "" && said.reading == failing && should.metric != "" {
		return []string{fmt.Sprintf("%s has no target and should say %q, %q, %q%s", side, should.metric, should.target, should.reading, because(said))}
	}
	var found []string
	for _, field := range []string{fieldMetric, fieldTarget, fieldReading} {
		if actual, wanted := *said.field(field), *should.field(field); actual != wanted {
			found = append(found, fmt.Sprintf("%s: %s says %q and should say %q%s", field, side, actual, wanted, because(said)))
		}
	}
	return found
}

func (a *answer) field(name string) *string {
	switch name {
	case fieldMetric:
		return &a.metric
	case fieldTarget:
		return &a.target
	default:
		return &a.reading
	}
}

func because(answer answer) string {
	if answer.why == "" {
		return ""
	}
	return ": " + oneLine(answer.why)
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
