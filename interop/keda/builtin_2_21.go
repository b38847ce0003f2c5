//go:build !keda_2_20

// How KEDA 2.21 builds its own trigger. The other file of this name is for 2.20, chosen by the tag keda_2_20 together with
// `-modfile go-2.20.mod`; nothing else in this program differs by version.

package main

import (
	"context"

	"github.com/kedacore/keda/v2/pkg/scalers"
	"github.com/kedacore/keda/v2/pkg/scalers/scalersconfig"
)

const (
	// kedaVersion is the module version that this file is written for; checked against what was built in.
	kedaVersion = "v2.21.0"
	// hasStreamMetricSpec says whether KEDA's push scaler also asks for a stream of targets.
	hasStreamMetricSpec = true
)

func newBuiltin(_ context.Context, config *scalersconfig.ScalerConfig) (scalers.Scaler, error) {
	return scalers.NewAzureServiceBusScaler(config)
}

// streamEnds are KEDA's words for the ends of its two streams.
var streamEnds = []streamEnd{
	{failure: "error running StreamIsActive", retry: "StreamIsActive retry backoff"},
	{failure: "StreamMetricSpec: stream error", retry: "StreamMetricSpec retry backoff"},
}
