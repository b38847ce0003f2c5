package main

import (
	"regexp"
	"slices"
	"testing"
)

// The comparison shows something only if enough of the patterns match, enough do not, and enough are none.
func TestDrawnPatternsDiffer(t *testing.T) {
	names := queuesOfTable()
	var sound, matching int
	for _, pattern := range drawPatterns() {
		compiled, err := regexp.Compile(pattern)
		if err != nil {
			continue
		}
		sound++
		compiled.Longest()
		if slices.ContainsFunc(names, func(queue queueState) bool { return compiled.FindString(queue.name) == queue.name }) {
			matching++
		}
	}
	t.Logf("of %d patterns %d are sound, %d match a queue", drawnPatterns, sound, matching)
	for what, count := range map[string]int{"unsound": drawnPatterns - sound, "matching": matching, "sound, not matching": sound - matching} {
		if count < drawnPatterns/6 {
			t.Errorf("only %d of %d patterns are %s", count, drawnPatterns, what)
		}
	}
}
