package backend

// WholeBody is the size up to which an answer is read whole.
const WholeBody = wholeBody

// Choose chooses the region that Do would ask first, and counts the call as sent there.
func (p *Pool) Choose(call *Call) bool { return p.candidates(call).next() != nil }
