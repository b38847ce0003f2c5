package main

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestNoCallIsNearTheMomentsOfCounting(t *testing.T) {
	phases := rand.New(rand.NewPCG(1, 1))
	began := time.Now()
	for range 10_000 {
		for _, timer := range timersOf(phases, true, began) {
			offset := timer.next.Sub(began)
			if offset < 0 || offset >= timer.every {
				t.Fatalf("a phase of %v in an interval of %v", offset, timer.every)
			}
			if within := offset % syncInterval; within < phaseMargin || within > syncInterval-phaseMargin {
				t.Fatalf("a call %v after a multiple of %v", within, syncInterval)
			}
		}
	}
}

func TestQuantile(t *testing.T) {
	var sorted []time.Duration
	if quantile(sorted, 0.99) != 0 {
		t.Error("of nothing it is 0")
	}
	for value := range 100 {
		sorted = append(sorted, time.Duration(value+1))
	}
	for share, wanted := range map[float64]time.Duration{0: 1, 0.5: 51, 0.99: 100, 1: 100} {
		if found := quantile(sorted, share); found != wanted {
			t.Errorf("%v of 1 to 100 is %d, not %d", share, found, wanted)
		}
	}
}

func TestConnectionStrings(t *testing.T) {
	const whole = "Endpoint=sb://localhost:1;SharedAccessKeyName=Root;SharedAccessKey=a2V5==;"
	if key := part(whole, "SharedAccessKey"); key != "a2V5==" {
		t.Errorf("the key is %q", key)
	}
	if without := withPart(whole, "SharedAccessKey", ""); without != "Endpoint=sb://localhost:1;SharedAccessKeyName=Root;" {
		t.Errorf("without the key it is %q", without)
	}
	if changed := withPart(whole, "SharedAccessKeyName", "Other"); part(changed, "SharedAccessKeyName") != "Other" {
		t.Errorf("changed it is %q", changed)
	}
}

func TestAgesOfReadings(t *testing.T) {
	const exposition = `# TYPE servicebus_scaler_reading_age_seconds histogram
servicebus_scaler_reading_age_seconds_sum 3.5
servicebus_scaler_reading_age_seconds_count 12
servicebus_scaler_reading_age_seconds_bucket{le="5.0"} 10
servicebus_scaler_reading_age_seconds_bucket{le="6.0"} 11
# EOF
`
	if read, err := agesOf(exposition); err != nil || read != (ages{all: 12, withinGoal: 11}) {
		t.Errorf("%+v, %v", read, err)
	}
	if _, err := agesOf("# EOF"); err == nil {
		t.Error("without the metric it is an error")
	}
}
