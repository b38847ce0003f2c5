package main

// What KEDA's scaler says of a trigger, in the words that are compared.

import (
	"context"
	"fmt"

	"github.com/kedacore/keda/v2/pkg/scalers"
	"github.com/kedacore/keda/v2/pkg/scalers/scalersconfig"
	v2 "k8s.io/api/autoscaling/v2"
)

const (
	objectName      = "receiver"
	objectNamespace = "demo"
	// connectionVariable is the variable of the scale target that holds the connection string.
	connectionVariable = "SERVICEBUS_CONNECTION_STR"
)

type metadata map[string]string

// answer is all that KEDA learns from one poll. No metric and a reading of "error" is a trigger that cannot be used.
type answer struct {
	// metric is the name as the HPA gets it, index included; empty when KEDA got no target.
	metric string
	// target is its type and value, empty when KEDA got none.
	target string
	// reading is the value and the activity, or "error".
	reading string
	// why is the error, for people.
	why string
}

func refused(err error) answer {
	return answer{reading: failing, why: err.Error()}
}

const failing = "error"

func counted(value string, active bool) string {
	if active {
		return value + " active"
	}
	return value + " inactive"
}

// builder makes one of KEDA's scalers.
type kedaConfig = scalersconfig.ScalerConfig

type builder func(ctx context.Context, config *scalersconfig.ScalerConfig) (scalers.Scaler, error)

// ask does what KEDA does at a poll: build the scaler, ask it for its target, then for value and activity.
func ask(ctx context.Context, build builder, config *scalersconfig.ScalerConfig) answer {
	scaler, err := build(ctx, config)
	if err != nil {
		return refused(err)
	}
	defer scaler.Close(ctx)
	return poll(ctx, scaler, config.TriggerIndex)
}

func poll(ctx context.Context, scaler scalers.Scaler, index int) answer {
	specs := scaler.GetMetricSpecForScaling(ctx)
	if len(specs) == 0 {
		// KEDA would not go on; asked all the same, because the error says why there is no target.
		_, _, err := scaler.GetMetricsAndActivity(ctx, scalers.GenerateMetricNameWithIndex(index, "none"))
		if err == nil {
			err = fmt.Errorf("no target, but a value")
		}
		return refused(err)
	}
	if len(specs) > 1 {
		return refused(fmt.Errorf("%d targets for one trigger", len(specs)))
	}
	name := specs[0].External.Metric.Name
	given := answer{metric: name, target: targetText(specs[0].External.Target)}
	values, active, err := scaler.GetMetricsAndActivity(ctx, name)
	switch {
	case err != nil:
		given.reading, given.why = failing, err.Error()
	case len(values) != 1 || values[0].MetricName != name:
		given.reading, given.why = failing, fmt.Sprintf("values are %v, not one of %s", values, name)
	default:
		given.reading = counted(values[0].Value.String(), active)
	}
	return given
}

func targetText(target v2.MetricTarget) string {
	value := target.AverageValue
	if value == nil {
		value = target.Value
	}
	if value == nil {
		return string(target.Type)
	}
	return fmt.Sprintf("%s %s", target.Type, value)
}

// external builds KEDA's client of an external scaler at the address.
func external(address string) builder {
	return func(_ context.Context, config *scalersconfig.ScalerConfig) (scalers.Scaler, error) {
		return scalers.NewExternalScaler(atAddress(config, address))
	}
}

// atAddress is the migration that a user makes: the same trigger with a scalerAddress.
func atAddress(config *scalersconfig.ScalerConfig, address string) *scalersconfig.ScalerConfig {
	migrated := *config
	migrated.TriggerMetadata = map[string]string{"scalerAddress": address}
	for key, value := range config.TriggerMetadata {
		migrated.TriggerMetadata[key] = value
	}
	return &migrated
}

func triggerConfig(name string, index int, metricType v2.MetricTargetType, trigger metadata, environment map[string]string) *scalersconfig.ScalerConfig {
	return &scalersconfig.ScalerConfig{
		ScalableObjectName:      name,
		ScalableObjectNamespace: objectNamespace,
		ScalableObjectType:      "ScaledObject",
		GlobalHTTPTimeout:       kedaHTTPTimeout,
		TriggerMetadata:         trigger,
		ResolvedEnv:             environment,
		AuthParams:              map[string]string{},
		TriggerIndex:            index,
		MetricType:              metricType,
	}
}
