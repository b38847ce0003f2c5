package main

import (
	"strings"
	"testing"
)

func TestOnlyListedDifferencesAreFine(t *testing.T) {
	expected := says("seven", "5", "7 active")
	other := expected
	other.reading = "0 inactive"
	listed := []difference{{fieldReading, "0 inactive", "why"}}
	for _, test := range []struct {
		name          string
		listed        []difference
		builtin, ours answer
		problem       string
	}{
		{"same", nil, expected, expected, ""},
		{"listed and there", listed, expected, other, ""},
		{"not listed", nil, expected, other, `ours says "0 inactive"`},
		{"listed, not there", listed, expected, expected, `ours says "7 active" and should say "0 inactive"`},
		{"the built-in is not as the row says", nil, other, other, `the built-in says "0 inactive" and should say "7 active"`},
		{"listed, but none", []difference{{fieldReading, "7 active", "why"}}, expected, expected, "a difference that is none"},
		{"no target", nil, expected, none(), `ours has no target and should say`},
	} {
		t.Run(test.name, func(t *testing.T) {
			found := strings.Join(judge("row", expected, test.listed, test.builtin, test.ours, 0).problems, "\n")
			if (test.problem == "") != (found == "") || !strings.Contains(found, test.problem) {
				t.Fatalf("problems are %q, expected %q", found, test.problem)
			}
		})
	}
}

func TestRowsHaveNamesOfTheirOwn(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range rows() {
		if seen[row.name] {
			t.Errorf("two rows are called %q", row.name)
		}
		seen[row.name] = true
	}
}
