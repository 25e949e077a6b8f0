package state

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"aoaigateway/handler/policy"
)

var periods = []policy.Period{policy.Minute, policy.Hour, policy.Day, policy.Week, policy.Month, policy.Year}

// Windows begin and end where the calendar says.
func TestWindowFollowsCalendar(t *testing.T) {
	for _, tc := range []struct {
		per            policy.Period
		at, start, end string
	}{
		{policy.Minute, "2027-03-01T10:07:59Z", "2027-03-01T10:07:00Z", "2027-03-01T10:08:00Z"},
		{policy.Hour, "2027-12-31T23:59:59Z", "2027-12-31T23:00:00Z", "2028-01-01T00:00:00Z"},
		{policy.Day, "2028-02-28T12:00:00Z", "2028-02-28T00:00:00Z", "2028-02-29T00:00:00Z"},
		{policy.Day, "2028-02-29T23:59:59Z", "2028-02-29T00:00:00Z", "2028-03-01T00:00:00Z"},
		{policy.Day, "2027-02-28T00:00:00Z", "2027-02-28T00:00:00Z", "2027-03-01T00:00:00Z"},
		{policy.Day, "2027-06-01T01:00:00+02:00", "2027-05-31T00:00:00Z", "2027-06-01T00:00:00Z"},
		{policy.Week, "2027-01-03T23:59:59Z", "2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z"}, // Sunday
		{policy.Week, "2027-01-04T00:00:00Z", "2027-01-04T00:00:00Z", "2027-01-11T00:00:00Z"}, // Monday
		{policy.Week, "2028-03-01T08:00:00Z", "2028-02-28T00:00:00Z", "2028-03-06T00:00:00Z"},
		{policy.Month, "2028-02-29T23:59:59Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"},
		{policy.Month, "2027-12-31T23:59:59Z", "2027-12-01T00:00:00Z", "2028-01-01T00:00:00Z"},
		{policy.Year, "2028-12-31T23:59:59Z", "2028-01-01T00:00:00Z", "2029-01-01T00:00:00Z"},
	} {
		at, err := time.Parse(time.RFC3339, tc.at)
		if err != nil {
			t.Fatal(err)
		}
		start := windowStart(tc.per, at)
		end := windowEnd(tc.per, start)
		if start.Format(time.RFC3339) != tc.start || end.Format(time.RFC3339) != tc.end {
			t.Errorf("%s at %s: %v to %v, want %s to %s", tc.per, tc.at, start, end, tc.start, tc.end)
		}
	}
}

func drawTime(t *rapid.T) time.Time {
	return time.Unix(rapid.Int64Range(0, 4_000_000_000).Draw(t, "unix"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns"))
}

// Windows cover all time without gap or overlap.
func TestWindowsHaveNoGaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		per, at := rapid.SampledFrom(periods).Draw(t, "per"), drawTime(t)
		start := windowStart(per, at)
		end := windowEnd(per, start)
		if at.Before(start) || !at.Before(end) {
			t.Fatalf("%v is not in %v to %v", at, start, end)
		}
		if !windowStart(per, end).Equal(end) || !windowStart(per, end.Add(-1)).Equal(start) || !windowStart(per, start).Equal(start) {
			t.Fatalf("the windows beside %v to %v do not touch it", start, end)
		}
	})
}
