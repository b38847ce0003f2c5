package main

// Rows in time: something happens in the namespace, and both must come to say so. Ours shares readings for some seconds
// (cacheTtl), so it is asked until it does, as KEDA asks at every poll; the deadline is what makes it a check.

import (
	"context"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"
)

const (
	changePatience = 20 * time.Second
	changePause    = 100 * time.Millisecond
)

type change struct {
	name    string
	trigger metadata
	// before is what both say first; act happens; after is what both must come to say. Empty ones are not looked at: then
	// ours must come to say what the built-in says.
	before string
	act    func(ctx context.Context, entities *namespace) error
	after  string
}

func changes() []change {
	return []change{
		{
			name: "messages arrive", trigger: queue("arriving"), before: "0 inactive", after: "3 active",
			act: func(ctx context.Context, entities *namespace) error { return entities.send(ctx, "arriving", 3) },
		},
		{
			name: "messages are completed", trigger: queue("leaving"), before: "2 active", after: "0 inactive",
			act: func(ctx context.Context, entities *namespace) error {
				newReceiver := func() (*azservicebus.Receiver, error) { return entities.data.NewReceiverForQueue("leaving", nil) }
				return entities.take(ctx, newReceiver, 2)
			},
		},
		{
			name: "a disabled queue is enabled", trigger: queue("half-off"), before: "", after: "8 active",
			act: func(ctx context.Context, entities *namespace) error {
				return entities.setQueueStatus(ctx, "half-off", admin.EntityStatusActive)
			},
		},
		{
			name: "a queue is deleted", trigger: queue("only-dead"), before: "0 inactive", after: failing,
			act: func(ctx context.Context, entities *namespace) error {
				_, err := entities.admin.DeleteQueue(ctx, "only-dead", nil)
				return err
			},
		},
		{
			name: "a queue is created", trigger: queue("new"), before: failing, after: "0 inactive",
			act: func(ctx context.Context, entities *namespace) error {
				return entities.makeQueue(ctx, queueState{name: "new"})
			},
		},
		{
			name: "one more matches a pattern", trigger: queue("rx-.*", "useRegex", "true"), before: "55 active", after: "119 active",
			act: func(ctx context.Context, entities *namespace) error {
				return entities.makeQueue(ctx, queueState{name: "rx-late", active: 64})
			},
		},
	}
}

func compareChange(ctx context.Context, processes *stack, change change) verdict {
	ctx, cancel := context.WithTimeout(ctx, 2*changePatience)
	defer cancel()
	began := time.Now()
	config := row{trigger: change.trigger}.config(processes.connectionString)
	fail := func(err error) verdict {
		return verdict{name: change.name, problems: []string{oneLine(err.Error())}, took: time.Since(began)}
	}
	// Both are kept, as KEDA keeps them between polls.
	builtin, err := newBuiltin(ctx, config)
	if err != nil {
		return fail(err)
	}
	defer builtin.Close(ctx)
	ours, err := external(processes.scalerAddress)(ctx, config)
	if err != nil {
		return fail(err)
	}
	defer ours.Close(ctx)
	if change.before != "" {
		for _, side := range []answer{poll(ctx, builtin, 0), poll(ctx, ours, 0)} {
			if side.reading != change.before {
				return fail(fmt.Errorf("before the change a side says %q, not %q%s", side.reading, change.before, because(side)))
			}
		}
	}
	if err := change.act(ctx, processes.entities); err != nil {
		return fail(err)
	}
	deadline := time.Now().Add(changePatience)
	for {
		builtinSays, oursSays := poll(ctx, builtin, 0), poll(ctx, ours, 0)
		expected := builtinSays
		if change.after != "" {
			expected.reading = change.after
		}
		verdict := judge(change.name, expected, nil, builtinSays, oursSays, time.Since(began))
		if len(verdict.problems) == 0 || time.Now().After(deadline) {
			return verdict
		}
		select {
		case <-ctx.Done():
			return fail(ctx.Err())
		case <-time.After(changePause):
		}
	}
}
