package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// stopwatch takes time and CPU from the first record in hand to the last commit.
type stopwatch struct {
	began, ended       time.Time
	cpuBefore, cpu     float64
	records, published int
}

func (w *stopwatch) begin() {
	if w.began.IsZero() {
		w.began, w.cpuBefore = time.Now(), cpuSeconds()
	}
}

func (w *stopwatch) did(records, results int) {
	w.records += records
	w.published += results
	w.ended, w.cpu = time.Now(), cpuSeconds()-w.cpuBefore
}

// report is what every contender prints.
func (w *stopwatch) report() map[string]any {
	return map[string]any{
		"records":  w.records,
		"results":  w.published,
		"began_at": float64(w.began.UnixMicro()) / 1e6,
		"ended_at": float64(w.ended.UnixMicro()) / 1e6,
		"cpu_s":    w.cpu,
		"rss_mb":   peakMegabytes(),
	}
}

func cpuSeconds() float64 {
	var used syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &used) != nil {
		return 0
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(used.Utime) + seconds(used.Stime)
}

// peakMegabytes is the most memory that was resident: getrusage would also
// count what the parent had before it became this program.
func peakMegabytes() float64 {
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if rest, found := strings.CutPrefix(line, "VmHWM:"); found {
			kilobytes, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kilobytes / 1024
		}
	}
	return 0
}
