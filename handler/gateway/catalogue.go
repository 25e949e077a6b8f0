package gateway

import "fmt"

// Fixer says who can remedy a fault.
type Fixer string

// The values of Fixer.
const (
	ByCaller   Fixer = "caller"   // by changing the request, the key or the token
	ByOperator Fixer = "operator" // by changing the policy, the settings or a deployment
	ByWaiting  Fixer = "waiting"  // the same request may succeed later
)

// Fault is one row of the error catalogue: a reason for which the gateway refuses a request
// or fails to serve it. Code is the value of error.code for clients, and the reason in the
// record and in Log Analytics. If Message is set, all errors of this fault have this
// message.
type Fault struct {
	Kind    Kind
	Code    string
	Message string
	Meaning string // explanation in the README
	Fixer   Fixer
}

// New returns an error of this fault with the given message. A message must say what was
// wrong, where, and what would be right.
func (f Fault) New(message string, args ...any) *Error {
	return &Error{Kind: f.Kind, Code: f.Code, Message: fmt.Sprintf(message, args...)}
}

// Because returns an error of this fault with the fault's own message. The cause is for the
// log only.
func (f Fault) Because(cause error) *Error {
	return &Error{Kind: f.Kind, Code: f.Code, Message: f.Message, Err: cause}
}
