package process_test

import (
	"fmt"
	"strings"
	"time"

	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/tests/harness"
)

// trips says after how many requests a fault closes the deployment; never = it does not.
type trips int

const (
	never  trips = 0
	atOnce trips = 1
	fifth  trips = 5  // if another region answers the request
	tenth  trips = 10 // the same, where each header counted as a success
)

// faultRow is one way in which a region fails, with the expected behaviour of the gateway.
type faultRow struct {
	name   string
	fault  aoaisim.Fault
	place  string // "refused" or "tls" = every connection to the region fails in this way
	reason string // expected reason of the attempts in the record
	tries  int    // expected number of attempts at each failing region; 0 = 1
	moves  bool   // true = the gateway tries the next region
	alone  int    // expected status if there is no other region
	waits  int    // expected status of a stream if there is no other region; 0 = as alone. It differs if the gateway waits for the region.
	trips  trips
	wait   time.Duration // about how long the deployment stays closed
	only   string        // "stream" or "whole" = the fault is possible only there; empty = in both
}

func statusFault(code int, headers ...string) aoaisim.Fault {
	f := aoaisim.Fault{Do: aoaisim.DoStatus, Status: code, Headers: map[string]string{}}
	for _, kv := range headers {
		name, value, _ := strings.Cut(kv, "=")
		f.Headers[name] = value
	}
	return f
}

// later stands for the date 90 seconds after the faults begin.
const later = "(date)"

const hangs = 3500 // milliseconds; longer than the answer timeout of the gateway in these tests

// A deployment stays closed for cooldown, or for named if the fault names a time.
const cooldown, named = 10 * time.Second, 90 * time.Second

const filtered = `{"error":{"code":"content_filter","message":"filtered","innererror":{"code":"ResponsibleAIPolicyViolation"}}}`

var faultRows = []faultRow{
	{
		name: "429 Retry-After in seconds", fault: statusFault(429, "Retry-After=90"), reason: "throttled", moves: true, alone: 429,
		trips: atOnce, wait: named,
	},
	{
		name: "429 Retry-After as a date", fault: statusFault(429, "Retry-After="+later), reason: "throttled", moves: true, alone: 429,
		trips: atOnce, wait: named,
	},
	{
		name: "429 retry-after-ms", fault: statusFault(429, "retry-after-ms=90000", "Retry-After=1"), reason: "throttled", moves: true,
		alone: 429, trips: atOnce, wait: named,
	},
	{name: "429 alone", fault: statusFault(429), reason: "throttled", moves: true, alone: 429, trips: atOnce, wait: cooldown},
	{
		name: "429 hostile", fault: statusFault(429, "Retry-After=99999999999"), reason: "throttled", moves: true, alone: 429, trips: atOnce,
		wait: 5 * time.Minute,
	},
	{
		name: "429 nonsense", fault: statusFault(429, "Retry-After=soon", "retry-after-ms=-3"), reason: "throttled", moves: true, alone: 429,
		trips: atOnce, wait: cooldown,
	},
	{name: "408", fault: statusFault(408), reason: "server-error", moves: true, alone: 408},
	{name: "500", fault: statusFault(500), reason: "server-error", moves: true, alone: 500},
	{name: "502", fault: statusFault(502), reason: "server-error", moves: true, alone: 502, trips: fifth, wait: cooldown},
	{name: "503", fault: statusFault(503), reason: "server-error", moves: true, alone: 503, trips: fifth, wait: cooldown},
	{
		name: "503 Retry-After", fault: statusFault(503, "Retry-After=90"), reason: "throttled", moves: true, alone: 429, trips: atOnce,
		wait: named,
	},
	{name: "refused", place: "refused", reason: "connect-failed", moves: true, alone: 503, trips: atOnce, wait: cooldown},
	{name: "TLS failure", place: "tls", reason: "tls-failed", moves: true, alone: 503, trips: atOnce, wait: cooldown},
	{name: "reset", fault: aoaisim.Fault{Do: aoaisim.DoReset}, reason: "reset", moves: true, alone: 503, trips: fifth, wait: cooldown},
	{
		name: "hang before header", fault: aoaisim.Fault{Do: aoaisim.DoHang, Millis: hangs}, reason: "first-byte-timeout", moves: true,
		alone: 504, waits: 200, trips: fifth, wait: cooldown,
	},
	{
		name: "hang before first event", fault: aoaisim.Fault{Do: aoaisim.DoHangEvent, Millis: hangs}, reason: "first-byte-timeout",
		moves: true, waits: 200, trips: fifth, wait: cooldown, only: "stream",
	},
	{
		name: "reset before first event", fault: aoaisim.Fault{Do: aoaisim.DoResetEvent}, reason: "cut-before-first-event", moves: true,
		alone: 503, trips: fifth, wait: cooldown, only: "stream",
	},
	{
		name: "reset before the body", fault: aoaisim.Fault{Do: aoaisim.DoResetEvent}, reason: "broken-body", moves: true, alone: 503,
		trips: tenth, wait: cooldown, only: "whole",
	},
	{
		name: "reset half way", fault: aoaisim.Fault{Do: aoaisim.DoResetBody}, reason: "broken-body", moves: true, alone: 503, trips: tenth,
		wait: cooldown, only: "whole",
	},
	{name: "401 once", fault: aoaisim.Fault{Do: aoaisim.DoStatus, Status: 401, Times: 1}, reason: "credential-refused", tries: 1, alone: 200},
	{name: "401 always", fault: statusFault(401), reason: "credential-refused", tries: 2, moves: true, alone: 502},
	{name: "403", fault: statusFault(403), reason: "credential-refused", moves: true, alone: 502},
	{name: "409", fault: statusFault(409), alone: 409},
	{
		name: "409 Retry-After", fault: statusFault(409, "Retry-After=90"), reason: "conflict", moves: true, alone: 409,
	},
	{name: "400", fault: statusFault(400), alone: 400},
	{name: "content filter", fault: aoaisim.Fault{Do: aoaisim.DoStatus, Status: 400, Body: filtered}, alone: 400},
	{name: "404", fault: statusFault(404), alone: 404},
}

// matrixCase is a row with one, two or three regions. All of them fail except the last of
// several. Each case has its own model and so its own deployments, because all cases share one
// gateway.
type matrixCase struct {
	faultRow
	stream bool
	model  string
	chain  []string // regions in the order of their priorities

	first harness.Answer // the answer to the first request
	state []string       // problems with states, which are checked while the case runs
}

func matrixCases() (cases []*matrixCase) {
	for _, row := range faultRows {
		for _, stream := range []bool{false, true} {
			if row.only == "stream" && !stream || row.only == "whole" && stream {
				continue
			}
			for regions := 1; regions <= 3; regions++ {
				bad := map[string][]string{"": {"a", "b"}, "refused": {"refused1", "refused2"}, "tls": {"tls1", "tls2"}}[row.place]
				chain := [][]string{{bad[0]}, {bad[0], "c"}, {bad[0], bad[1], "c"}}[regions-1]
				cases = append(cases, &matrixCase{faultRow: row, stream: stream, model: fmt.Sprintf("m%d", len(cases)), chain: chain})
			}
		}
	}
	return cases
}

func (c *matrixCase) String() string {
	return fmt.Sprintf("%s, stream %t, %d regions", c.name, c.stream, len(c.chain))
}

// failing returns the regions to which the gateway sends requests and which fail.
func (c *matrixCase) failing() []string {
	switch {
	case len(c.chain) == 1:
		return c.chain
	case !c.moves:
		return c.chain[:1]
	}
	return c.chain[:len(c.chain)-1]
}

// waited reports whether the gateway waited for a silent region because there was no other.
func (c *matrixCase) waited() bool { return c.waits != 0 && len(c.chain) == 1 }

func (c *matrixCase) status() int {
	switch {
	case c.moves && len(c.chain) > 1:
		return 200
	case c.waited() && c.stream:
		return c.waits
	}
	return c.alone
}

// reasons returns the expected attempts in the form region/reason.
func (c *matrixCase) reasons() (want []string) {
	for _, region := range c.failing() {
		reason := c.reason
		if c.waited() {
			reason = map[bool]string{true: "", false: "client-cancelled"}[c.stream]
		}
		for range max(1, c.tries) {
			want = append(want, region+"/"+reason)
		}
	}
	switch {
	case c.moves && len(c.chain) > 1:
		want = append(want, "c/")
	case c.name == "401 once":
		want = append(want, c.chain[0]+"/")
	}
	return want
}

func (c *matrixCase) body() string {
	return fmt.Sprintf(`{"messages":[{"role":"user","content":"go [tokens:5]"}],"stream":%t}`, c.stream)
}
