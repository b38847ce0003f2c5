package main

// What KEDA logs. Its scalers do not hand every error back (GetMetricSpec's and the streams' are logged only), so the log is
// kept, bounded, and asked where that is the only witness.

import (
	"slices"
	"strings"
	"sync"

	"github.com/go-logr/logr/funcr"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
)

const maxKeptLines = 1000

var kedaLog struct {
	sync.Mutex
	lines []loggedLine
	next  int
}

// loggedLine is a line and its place among all that were logged.
type loggedLine struct {
	number int
	text   string
}

// keepKedaLog must come before KEDA builds its first scaler.
func keepKedaLog() {
	logf.SetLogger(funcr.New(func(prefix, arguments string) {
		kedaLog.Lock()
		defer kedaLog.Unlock()
		if len(kedaLog.lines) == maxKeptLines {
			kedaLog.lines = slices.Delete(kedaLog.lines, 0, 1)
		}
		kedaLog.lines = append(kedaLog.lines, loggedLine{kedaLog.next, prefix + " " + arguments})
		kedaLog.next++
	}, funcr.Options{Verbosity: 1}))
}

// kedaLogged gives the kept lines that hold all the texts.
func kedaLogged(texts ...string) []loggedLine {
	kedaLog.Lock()
	defer kedaLog.Unlock()
	var found []loggedLine
	for _, line := range kedaLog.lines {
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line.text, text) }) {
			found = append(found, line)
		}
	}
	return found
}
