package funchost

import (
	"cmp"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options of Start.
type Options struct {
	AppDir  string        // the staged app: host.json, the executable, one folder a function
	Addr    string        // default 127.0.0.1:0
	Env     []string      // of the handler; nil = this process's
	Fresh   bool          // each death is a lost instance, replaced by fresh host state on the same port
	Stdout  io.Writer     // the handler's output; nil = discarded
	Stderr  io.Writer     // nil = Stdout
	Log     io.Writer     // what the host has to say; nil = discarded
	Timers  time.Duration // fire every timer this often; 0 = only Trigger does
	Version string        // host version it claims; default 4.1052.200
	Idle    time.Duration // activity timeout; default 240 s
	Memory  int64         // bytes that the host may take; default 1,536 MiB, as on an instance of 2,048 MB
	// Concurrency is the platform's perInstanceConcurrency: further requests wait. 0 = no bound.
	Concurrency int
	// FrontEnd adds the headers of the platform's front end, in place of the caller's.
	FrontEnd bool
	// CollapseSlashes merges leading slashes, as a rewrite rule of an Application Gateway in
	// front can. The host itself answers //openai/… with 404, whatever the routes.
	CollapseSlashes bool
}

const (
	defaultVersion   = "4.1052.200"
	defaultIdle      = 240 * time.Second
	defaultMemory    = 1536 << 20
	defaultBodyLimit = 104_857_600
)

func (o Options) withDefaults() Options {
	if o.Env == nil {
		o.Env = os.Environ()
	}
	if o.Stdout == nil {
		o.Stdout = io.Discard
	}
	if o.Log == nil {
		o.Log = io.Discard
	}
	o.Addr = cmp.Or(o.Addr, "127.0.0.1:0")
	o.Version = cmp.Or(o.Version, defaultVersion)
	o.Idle = cmp.Or(o.Idle, defaultIdle)
	o.Memory = cmp.Or(o.Memory, defaultMemory)
	o.Stdout, o.Log = &shared{w: o.Stdout}, &shared{w: o.Log}
	if o.Stderr == nil {
		o.Stderr = o.Stdout
	} else {
		o.Stderr = &shared{w: o.Stderr}
	}
	return o
}

// setting is a variable of the handler's environment, which is the host's too.
func (o Options) setting(name string) (value string) {
	for _, s := range o.Env {
		if v, ok := strings.CutPrefix(s, name+"="); ok {
			value = v
		}
	}
	return value
}

func (o Options) bodyLimit() int64 {
	if n, err := strconv.ParseInt(o.setting("FUNCTIONS_REQUEST_BODY_SIZE_LIMIT"), 10, 64); err == nil && n >= 0 {
		return n
	}
	return defaultBodyLimit
}

// flex tells whether the forwarded headers have the form of the Flex Consumption plan.
func (o Options) flex() bool { return o.FrontEnd || o.setting("WEBSITE_SKU") == "FlexConsumption" }

// shared lets several processes' output go to one writer.
type shared struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}
