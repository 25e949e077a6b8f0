package meter

import "testing"

func TestAveragesFollowAnswers(t *testing.T) {
	var o Averages
	if got := o.Of("m"); got != usualOutput {
		t.Errorf("before the first answer %d", got)
	}
	o.Observe("m", 20)
	if got := o.Of("m"); got != 20 {
		t.Errorf("after one answer of 20: %d", got)
	}
	for range 100 {
		o.Observe("m", 1000)
	}
	if got := o.Of("m"); got < 980 || got > 1000 {
		t.Errorf("after many of 1000: %d", got)
	}
	if got := o.Of("other"); got != usualOutput {
		t.Errorf("another model: %d", got)
	}
}
