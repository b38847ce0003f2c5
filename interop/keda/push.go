package main

// KEDA's push scaler on our streams: the state at once, an edge when a message comes, the target as a stream (2.21), and a
// clean end when the scaler is told to go, because only that resets KEDA's reconnect delay.

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/kedacore/keda/v2/pkg/scalers"
	v2 "k8s.io/api/autoscaling/v2"
)

// pushPatience is for what must come by itself, without a poll.
const pushPatience = 10 * time.Second

// streamEnd is what KEDA logs when one of its streams ends: the failure, unless it ended well, and then that it tries again.
type streamEnd struct {
	failure, retry string
}

// check is what does not fit into a row.
type check struct {
	name string
	run  func(ctx context.Context, processes *stack) error
}

// In this order: the last one stops the scaler.
var pushChecks = []check{
	{"push: polls say the same as the streams", pushedAgrees},
	{"push: inactive at once, active when a message comes, inactive when it is gone", pushFollows},
	{"push: the target as a stream", pushedTarget},
	{"push: streams end well when the scaler stops", pushEndsWell},
}

// running is a push scaler with its streams open.
type running struct {
	scaler scalers.PushScaler
	active chan bool
	cancel context.CancelFunc
}

func startPush(ctx context.Context, processes *stack, config *kedaConfig) (*running, error) {
	scaler, err := scalers.NewExternalPushScaler(atAddress(config, processes.scalerAddress))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	started := &running{scaler: scaler, active: make(chan bool), cancel: cancel}
	go scaler.Run(ctx, started.active)
	return started, nil
}

func (r *running) stop(ctx context.Context) error {
	r.cancel()
	deadline := time.After(pushPatience)
	for {
		select {
		// Run closes it at its end; what still came is of no interest.
		case _, open := <-r.active:
			if !open {
				return r.scaler.Close(ctx)
			}
		case <-deadline:
			return fmt.Errorf("Run goes on %v after its end", pushPatience)
		}
	}
}

// whilePushed does something while a push scaler's streams are open, once they have said that first state.
func whilePushed(ctx context.Context, processes *stack, config *kedaConfig, first bool, do func(streamed *running) error) (err error) {
	streamed, err := startPush(ctx, processes, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, streamed.stop(ctx)) }()
	if err := streamed.await(first); err != nil {
		return err
	}
	return do(streamed)
}

// await reads the stream until it says so. A heartbeat may repeat the state before.
func (r *running) await(wanted bool) error {
	deadline := time.After(pushPatience)
	for {
		select {
		case active, open := <-r.active:
			switch {
			case !open:
				return errors.New("the stream's channel is closed")
			case active == wanted:
				return nil
			}
		case <-deadline:
			return fmt.Errorf("the stream did not say %v within %v; KEDA logged %v", wanted, pushPatience, kedaLogged("StreamIsActive"))
		}
	}
}

func pushedAgrees(ctx context.Context, processes *stack) error {
	for _, trigger := range []metadata{queue("seven"), queue("empty"), subscription("events", "audit"), queue("rx-a|rx-ab", "useRegex", "true")} {
		config := row{trigger: trigger}.config(processes.connectionString)
		polled := ask(ctx, external(processes.scalerAddress), config)
		if polled.reading == failing {
			return fmt.Errorf("%v: %s", trigger, polled.why)
		}
		err := whilePushed(ctx, processes, config, polled.isActive(), func(streamed *running) error {
			if pushed := poll(ctx, streamed.scaler, 0); pushed != polled {
				return fmt.Errorf("the push scaler says %+v, the other %+v", pushed, polled)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("%v: %w", trigger, err)
		}
	}
	return nil
}

func (a answer) isActive() bool { return strings.HasSuffix(a.reading, " active") }

// specStreamer is scalers.MetricSpecStreamer, which KEDA 2.20 does not have.
type specStreamer interface {
	MetricSpecChan() <-chan []v2.MetricSpec
}

func pushFollows(ctx context.Context, processes *stack) error {
	entities := processes.entities
	if err := entities.makeQueue(ctx, queueState{name: "pushed"}); err != nil {
		return err
	}
	config := row{trigger: queue("pushed")}.config(processes.connectionString)
	return whilePushed(ctx, processes, config, false, func(streamed *running) error {
		if err := entities.send(ctx, "pushed", 1); err != nil {
			return err
		}
		if err := streamed.await(true); err != nil {
			return err
		}
		newReceiver := func() (*azservicebus.Receiver, error) { return entities.data.NewReceiverForQueue("pushed", nil) }
		if err := entities.take(ctx, newReceiver, 1); err != nil {
			return err
		}
		return streamed.await(false)
	})
}

func pushedTarget(ctx context.Context, processes *stack) error {
	config := row{trigger: queue("seven", "messageCount", "3")}.config(processes.connectionString)
	return whilePushed(ctx, processes, config, true, func(streamed *running) error {
		streamer, can := streamed.scaler.(specStreamer)
		if can != hasStreamMetricSpec {
			return fmt.Errorf("KEDA %s streams targets: %v, expected %v", kedaVersion, can, hasStreamMetricSpec)
		}
		if !can {
			return nil
		}
		select {
		case specs := <-streamer.MetricSpecChan():
			asked := streamed.scaler.GetMetricSpecForScaling(ctx)
			if len(specs) != 1 || len(asked) != 1 || specs[0].External.Metric.Name != asked[0].External.Metric.Name ||
				targetText(specs[0].External.Target) != targetText(asked[0].External.Target) {
				return fmt.Errorf("the stream says %v, GetMetricSpec %v", specs, asked)
			}
			return nil
		case <-time.After(pushPatience):
			return fmt.Errorf("no target within %v", pushPatience)
		}
	})
}

func pushEndsWell(ctx context.Context, processes *stack) error {
	const object = "receiver-at-the-end"
	config := row{trigger: queue("seven")}.config(processes.connectionString)
	config.ScalableObjectName = object
	return whilePushed(ctx, processes, config, true, func(*running) error {
		scaler := processes.scaler
		processes.scaler = nil
		if err := scaler.stop(); err != nil {
			return err
		}
		// KEDA logs a failure, if it is one, and then how long it waits before it opens the stream again.
		deadline := time.Now().Add(pushPatience)
		for _, ended := range streamEnds {
			for len(kedaLogged(object, ended.retry)) == 0 {
				if time.Now().After(deadline) {
					return fmt.Errorf("KEDA did not notice within %v that the stream ended: no %q", pushPatience, ended.retry)
				}
				time.Sleep(changePause)
			}
			retry := kedaLogged(object, ended.retry)[0]
			if failures := kedaLogged(object, ended.failure); len(failures) > 0 && failures[0].number < retry.number {
				return fmt.Errorf("KEDA took the end of a stream for a failure: %s", failures[0].text)
			}
		}
		return nil
	})
}
