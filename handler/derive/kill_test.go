package derive_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal/manifest"
)

// One process is killed before or after each of its steps on a store. The recovery of the next one must leave nothing
// out and nothing broken.
func TestKilledWriterLosesNothing(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			reached := false
			t.Run(fmt.Sprintf("at=%d after=%v", at, after), func(t *testing.T) {
				in(t, func(w *harness) { reached = killedAt(w, at, after) })
			})
			if !reached {
				if at < 20 {
					t.Errorf("only %d steps were made", at)
				}
				break
			}
		}
	}
}

// killedAt reports whether the process lived long enough to be killed at that step.
func killedAt(w *harness, at int, after bool) bool {
	time.Sleep(59 * time.Minute)
	p := w.start(&life{killAt: at, after: after})
	started, ended := p.serveSix()
	killed := p.life.isDead()
	p.life.kill()
	p.end()
	q := w.start(&life{})
	time.Sleep(3 * time.Minute)
	q.recoverFiles()
	time.Sleep(3 * time.Minute)
	q.recoverFiles() // the adopted files count as dead now
	time.Sleep(3 * time.Minute)
	q.recoverFiles()
	time.Sleep(10 * time.Second)
	q.end()
	w.wantSound()
	for _, f := range w.files() {
		if f.State != manifest.Done {
			w.t.Errorf("entry %+v is not done", f)
		}
	}
	checkKilled(w.t, started, ended, p.sink.got(), q.sink.got())
	return killed
}

// serveSix begins six requests and ends four of them, over the hour into a second file. It returns those that were
// durable.
func (i *instance) serveSix() (started, ended map[string]bool) {
	started, ended = map[string]bool{}, map[string]bool{}
	for n := range 6 {
		id := fmt.Sprint(n)
		if i.begin(id) {
			started[id] = true
		}
		if n%3 != 2 && i.finish(id) {
			ended[id] = true
		}
		time.Sleep(20 * time.Second)
	}
	return started, ended
}

func checkKilled(t *testing.T, started, ended map[string]bool, first, second map[string]map[gateway.LineType]int) {
	t.Helper()
	for id := range started {
		ends, cut := first[id][gateway.End]+second[id][gateway.End], second[id][gateway.Incomplete]
		switch {
		case ended[id] && ends == 0:
			t.Errorf("the durable end of %s was not derived", id)
		case ends == 0 && cut == 0:
			t.Errorf("%s began, and neither an end nor an incomplete record was derived", id)
		case ends > 0 && cut > 0:
			t.Errorf("%s has an end and is incomplete", id)
		case ends > 2 || cut > 1:
			t.Errorf("%s was derived %d times, incomplete %d times", id, ends, cut)
		}
	}
}

// The recovering process is killed at each of its own steps. A third process finishes.
func TestKilledRecoveryIsFinished(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			reached := false
			t.Run(fmt.Sprintf("at=%d after=%v", at, after), func(t *testing.T) {
				in(t, func(w *harness) { reached = recoveryKilledAt(w, at, after) })
			})
			if !reached {
				if at < 15 {
					t.Errorf("only %d steps were made", at)
				}
				break
			}
		}
	}
}

func recoveryKilledAt(w *harness, at int, after bool) bool {
	time.Sleep(59*time.Minute + 30*time.Second)
	p := w.start(&life{})
	for _, id := range []string{"a", "b", "c"} {
		p.begin(id)
	}
	p.finish("a")
	time.Sleep(time.Minute)
	p.finish("b")
	p.life.kill()
	p.end()
	time.Sleep(3 * time.Minute)
	q := w.start(&life{killAt: at, after: after})
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	_, _ = q.worker.Recover(ctx)
	killed := q.life.isDead()
	q.life.kill()
	q.end()
	time.Sleep(3 * time.Minute)
	r := w.start(&life{})
	r.recoverFiles()
	time.Sleep(3 * time.Minute)
	r.recoverFiles()
	time.Sleep(10 * time.Second)
	r.end()
	w.wantSound()
	total := sum(p.sink, q.sink, r.sink)
	if total["a"][gateway.End] == 0 || total["b"][gateway.End] == 0 || total["c"][gateway.Incomplete] == 0 || total["c"][gateway.End] > 0 {
		w.t.Errorf("derived %v", total)
	}
	for _, f := range w.files() {
		if f.State != manifest.Done {
			w.t.Errorf("entry %+v is not done", f)
		}
	}
	return killed
}

// sum adds up the entries of each id by type.
func sum(sinks ...*sink) map[string]map[gateway.LineType]int {
	total := map[string]map[gateway.LineType]int{}
	for _, s := range sinks {
		for id, types := range s.got() {
			for t, n := range types {
				if total[id] == nil {
					total[id] = map[gateway.LineType]int{}
				}
				total[id][t] += n
			}
		}
	}
	return total
}
