//go:build keda_2_20

// How KEDA 2.20 builds its own trigger: see the file for 2.21.

package main

import (
	"context"

	"github.com/kedacore/keda/v2/pkg/scalers"
	"github.com/kedacore/keda/v2/pkg/scalers/scalersconfig"
)

const (
	kedaVersion         = "v2.20.2"
	hasStreamMetricSpec = false
)

func newBuiltin(ctx context.Context, config *scalersconfig.ScalerConfig) (scalers.Scaler, error) {
	return scalers.NewAzureServiceBusScaler(ctx, config)
}

var streamEnds = []streamEnd{{failure: "error running internalRun", retry: "external push retry backoff"}}
