package main

// The table as people read it.

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

type report struct {
	same, failed int
	wanted       []verdict
}

func (r *report) add(verdict verdict) {
	mark := "same"
	switch {
	case len(verdict.problems) > 0:
		mark = "FAILED"
		r.failed++
	case len(verdict.wanted) > 0:
		mark = "wanted"
		r.wanted = append(r.wanted, verdict)
	default:
		r.same++
	}
	builtin := verdict.builtin
	line := fmt.Sprintf("%-6s  %-56s  %-38s  %-20s  %-12s  %6d ms",
		mark, verdict.name, orDash(builtin.metric), orDash(builtin.target), builtin.reading, verdict.took.Milliseconds())
	fmt.Println(line)
	for _, problem := range verdict.problems {
		fmt.Printf("        %s\n", problem)
	}
}

// addCheck is for what is not a row of the table.
func (r *report) addCheck(name string, err error) {
	if err != nil {
		r.failed++
		fmt.Printf("FAILED  %s\n        %s\n", name, oneLine(err.Error()))
		return
	}
	r.same++
	fmt.Printf("same    %s\n", name)
}

// finish prints what is wanted to differ, and the sum. It says whether all was as wanted.
func (r *report) finish() bool {
	if len(r.wanted) > 0 {
		fmt.Print("\nWanted differences:\n")
	}
	var reasons []string
	for _, verdict := range r.wanted {
		for _, difference := range verdict.wanted {
			if !slices.Contains(reasons, difference.why) {
				reasons = append(reasons, difference.why)
			}
		}
	}
	for _, why := range reasons {
		fmt.Printf("- %s\n", why)
		for _, verdict := range r.wanted {
			var parts []string
			for _, difference := range verdict.wanted {
				if difference.why == why {
					builtin := *verdict.builtin.field(difference.field)
					parts = append(parts, fmt.Sprintf("%s %s instead of %s", difference.field, orDash(difference.ours), orDash(builtin)))
				}
			}
			if len(parts) > 0 {
				fmt.Printf("  %s: %s\n", verdict.name, strings.Join(parts, ", "))
			}
		}
	}
	fmt.Printf("\n%d the same, %d differ as wanted, %d FAILED\n", r.same, len(r.wanted), r.failed)
	return r.failed == 0 && r.same > 0
}

func orDash(text string) string {
	if text == "" {
		return "–"
	}
	return text
}

func milliseconds(duration time.Duration) string {
	return fmt.Sprintf("%.1f", float64(duration.Microseconds())/1000)
}
