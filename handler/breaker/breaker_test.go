package breaker_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aoaigateway/handler/breaker"
)

func allow(t *testing.T, b *breaker.Breaker) breaker.Pass {
	t.Helper()
	p, ok := b.Allow()
	if !ok {
		t.Fatal("no leave")
	}
	return p
}

func refuse(t *testing.T, b *breaker.Breaker) {
	t.Helper()
	if _, ok := b.Allow(); ok {
		t.Fatal("leave given")
	}
}

func TestBreakerTripsAfterThree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New(breaker.Options{})
		allow(t, b).Fail()
		allow(t, b).Fail()
		time.Sleep(11 * time.Second)
		allow(t, b).Fail()
		allow(t, b).Fail()
		allow(t, b).Fail()
		refuse(t, b)
		if s, wait, throttled := b.Status(); s != breaker.Open || wait != 10*time.Second || throttled {
			t.Fatalf("%v for %v, throttled %t", s, wait, throttled)
		}
	})
}

// A named time is capped at five minutes.
func TestTripTakesNamedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New(breaker.Options{})
		allow(t, b).Trip(1500*time.Millisecond, true)
		time.Sleep(1499 * time.Millisecond)
		refuse(t, b)
		time.Sleep(time.Millisecond)
		allow(t, b).Trip(1000*time.Hour, true)
		if _, wait, throttled := b.Status(); wait != breaker.MaxOpen || !throttled {
			t.Fatalf("open for %v, throttled %t", wait, throttled)
		}
	})
}

func TestHalfOpenAllowsOneProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New(breaker.Options{})
		allow(t, b).Trip(time.Second, false)
		time.Sleep(time.Second)
		probe := allow(t, b)
		refuse(t, b)
		probe.Forget()
		probe = allow(t, b)
		probe.Fail()
		refuse(t, b)
		time.Sleep(10 * time.Second)
		allow(t, b).Success()
		allow(t, b)
		allow(t, b)
		if s, _, _ := b.Status(); s != breaker.Closed {
			t.Fatal(s)
		}
	})
}

func TestPassOfOlderStateIsIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New(breaker.Options{})
		slow, late := allow(t, b), allow(t, b)
		allow(t, b).Trip(time.Second, true)
		slow.Success()
		refuse(t, b)
		late.Trip(3*time.Second, true) // a second refusal, with a longer wait
		time.Sleep(2 * time.Second)
		refuse(t, b)
	})
}

func TestBreakerTripsByRate(t *testing.T) {
	for _, c := range []struct {
		name  string
		calls string // of one second each tenth: + answered, - failed
		trips bool
	}{
		{"half", "+-+-+-", true},
		{"three in a row among many", "++++++++++++++++++---", true},
		{"one in four", strings.Repeat("+++-", 20), false},
		{"three, but long apart", "-" + strings.Repeat("+", 101) + "-+++-", false},
		{"old successes do not count", strings.Repeat("+", 50) + strings.Repeat(" ", 110) + "-+-+-", true},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := breaker.New(breaker.Options{})
			for _, call := range c.calls {
				if p, ok := b.Allow(); !ok {
					break
				} else if call == '-' {
					p.Fail()
				} else if call == '+' {
					p.Success()
				}
				time.Sleep(time.Second / 10)
			}
			if s, _, _ := b.Status(); (s == breaker.Open) != c.trips {
				t.Errorf("%s: %v", c.name, s)
			}
		})
	}
}

func TestLearnNeverShortens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New(breaker.Options{})
		b.Learn(0, true)
		before := allow(t, b)
		b.Learn(2*time.Second, true)
		before.Success()
		refuse(t, b)
		b.Learn(time.Second, false)
		if _, wait, throttled := b.Status(); wait != 2*time.Second || !throttled {
			t.Errorf("open for %v, throttled %t", wait, throttled)
		}
		b.Learn(1000*time.Hour, false)
		if _, wait, _ := b.Status(); wait != breaker.MaxOpen {
			t.Errorf("open for %v", wait)
		}
		time.Sleep(breaker.MaxOpen)
		probe := allow(t, b)
		b.Learn(time.Second, false) // another's probe failed first
		probe.Success()
		refuse(t, b)
	})
}

func TestChangeIsReportedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New(breaker.Options{})
		var reported []string
		note := func(c breaker.Change) {
			if c.Happened() {
				reported = append(reported, c.From.String()+">"+c.To.String())
			}
		}
		first, second := allow(t, b), allow(t, b)
		note(first.Trip(time.Second, true))
		note(second.Trip(time.Minute, true)) // only extends it
		note(b.Learn(2*time.Minute, false))
		time.Sleep(2 * time.Minute)
		probe := allow(t, b)
		note(probe.Change)
		probe.Forget()
		probe = allow(t, b)
		note(probe.Change)
		note(probe.Fail())
		time.Sleep(10 * time.Second)
		probe = allow(t, b)
		note(probe.Change)
		note(probe.Success())
		note(b.Learn(time.Second, false))
		want := "closed>open open>half-open half-open>open open>half-open half-open>closed closed>open"
		if got := strings.Join(reported, " "); got != want {
			t.Errorf("reported %s, want %s", got, want)
		}
	})
}
