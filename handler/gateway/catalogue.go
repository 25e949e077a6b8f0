package gateway

import "fmt"

// Fixer says who can end a fault.
type Fixer string

// Who can end a fault.
const (
	ByCaller   Fixer = "caller"   // by changing the request, the key or the token
	ByOperator Fixer = "operator" // by changing the policy, the settings or a deployment
	ByWaiting  Fixer = "waiting"  // the same request may succeed later
)

// Fault is one row of the error catalogue: a way in which the gateway refuses a request or
// fails to serve it. Code is what clients find as error.code and what the record and Log
// Analytics keep as the reason. A Fault with a Message always says the same.
type Fault struct {
	Kind    Kind
	Code    string
	Message string
	Meaning string // for the documents
	Fixer   Fixer
}

// New returns an error of this fault. The message says what was wrong, where, and what
// would be right.
func (f Fault) New(message string, args ...any) *Error {
	return &Error{Kind: f.Kind, Code: f.Code, Message: fmt.Sprintf(message, args...)}
}

// Because returns an error of this fault with its own message and a cause for the log.
func (f Fault) Because(cause error) *Error {
	return &Error{Kind: f.Kind, Code: f.Code, Message: f.Message, Err: cause}
}
