package proxy

import "testing"

func TestOutputAverageFollowsAnswers(t *testing.T) {
	var o outputAverages
	if got := o.of("m"); got != usualOutput {
		t.Errorf("before the first answer %d", got)
	}
	o.observe("m", 20)
	if got := o.of("m"); got != 20 {
		t.Errorf("after one answer of 20: %d", got)
	}
	for range 100 {
		o.observe("m", 1000)
	}
	if got := o.of("m"); got < 980 || got > 1000 {
		t.Errorf("after many of 1000: %d", got)
	}
	if got := o.of("other"); got != usualOutput {
		t.Errorf("another model: %d", got)
	}
}
