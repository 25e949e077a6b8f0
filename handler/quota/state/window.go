package state

import (
	"time"

	"aoaigateway/handler/policy"
)

// windowStart returns the beginning of the fixed UTC window that contains t.
func windowStart(p policy.Period, t time.Time) time.Time {
	t = t.UTC()
	y, m, d := t.Date()
	switch p {
	case policy.Minute:
		return t.Truncate(time.Minute)
	case policy.Hour:
		return t.Truncate(time.Hour)
	case policy.Day:
		return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	case policy.Week:
		sinceMonday := (int(t.Weekday()) + 6) % 7
		return time.Date(y, m, d-sinceMonday, 0, 0, 0, 0, time.UTC)
	case policy.Month:
		return time.Date(y, m, 1, 0, 0, 0, 0, time.UTC)
	case policy.Year:
	}
	return time.Date(y, time.January, 1, 0, 0, 0, 0, time.UTC)
}

// UntilEnd returns how long it is until the first window of a charge ends, at most most.
func UntilEnd(now time.Time, limits []policy.Limit, windowIDs []int64, most time.Duration) time.Duration {
	for i, l := range limits {
		if !isBucket(l) {
			most = min(most, windowEnd(l.Per, time.Unix(windowIDs[i], 0).UTC()).Sub(now))
		}
	}
	return most
}

// windowEnd returns the end of the window that begins at start.
func windowEnd(p policy.Period, start time.Time) time.Time {
	switch p {
	case policy.Minute:
		return start.Add(time.Minute)
	case policy.Hour:
		return start.Add(time.Hour)
	case policy.Day:
		return start.AddDate(0, 0, 1)
	case policy.Week:
		return start.AddDate(0, 0, 7)
	case policy.Month:
		return start.AddDate(0, 1, 0)
	case policy.Year:
	}
	return start.AddDate(1, 0, 0)
}
