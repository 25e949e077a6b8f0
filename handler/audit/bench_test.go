//go:build unix

package audit_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"aoaigateway/handler/audit"
	"aoaigateway/handler/blob"
	"aoaigateway/handler/body/bodytest"
	"aoaigateway/handler/journal"
)

// BenchmarkExchange is one request of 2 KB and its answer of 2 KB, compression included.
func BenchmarkExchange(b *testing.B) {
	bodies := make([][]byte, 256) // more than the compressor's window
	for i := range bodies {
		bodies[i] = talk(uint64(i), 2000)
	}
	w := journal.New(journal.Options{Blobs: nowhere{}, MaxBacklog: 1 << 40, Interval: time.Millisecond})
	l := audit.New(audit.Options{Journal: w, Bodies: nowhere{}})
	b.ReportAllocs()
	// Ends wait for their group: enough goroutines keep the processor busy meanwhile.
	b.SetParallelism(256)
	start := cpuTime()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			rec := record("01920000-0000-7000-8000-000000000000")
			x := l.Exchange(rec)
			x.Request("application/json", bodytest.Of(bodies[i*2%len(bodies)]))
			_ = x.Begin()
			_, _ = x.Response("application/json").Write(bodies[(i*2+1)%len(bodies)])
			if err := x.End(context.Background()); err != nil {
				b.Error(err)
			}
		}
	})
	_ = w.Close(context.Background())
	b.ReportMetric(float64(cpuTime()-start)/float64(b.N), "cpu-ns/op")
}

// talk returns a chat request of about size bytes that compresses like prose, to about a half.
func talk(seed uint64, size int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	words := strings.Fields("the a gateway writes what was asked and answered before it ends so nobody can lose it")
	var text strings.Builder
	for text.Len() < size-60 {
		fmt.Fprintf(&text, "%s%x ", words[r.IntN(len(words))], r.IntN(4096))
	}
	return []byte(`{"messages":[{"role":"user","content":"` + text.String() + `"}]}`)
}

// nowhere accepts everything at no cost.
type nowhere struct{ *blob.Mem }

func (nowhere) Create(context.Context, string) error                { return nil }
func (nowhere) Append(context.Context, string, int64, []byte) error { return nil }

// cpuTime returns the CPU time that this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
