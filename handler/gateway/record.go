package gateway

import "time"

// Outcome says how an exchange ended for the client.
type Outcome string

// The outcomes of a request.
const (
	Complete      Outcome = "complete"         // the client received a whole answer, which may be an error
	Refused       Outcome = "refused"          // the gateway answered without sending the request to a region
	ClientLeft    Outcome = "client-cancelled" // the client closed the connection before the end
	UpstreamCut   Outcome = "upstream-cut"     // the region broke off after the commit point
	NotDurable    Outcome = "not-durable"      // withheld: its end could not be made durable in time
	GatewayFailed Outcome = "gateway-failed"   // a fault of the gateway
)

// Attempt is one attempt at one region.
type Attempt struct {
	Region     string    `json:"region"`
	Deployment string    `json:"deployment,omitempty"`
	APIVersion string    `json:"apiVersion,omitempty"`
	Start      time.Time `json:"start"`
	Millis     int64     `json:"ms"`               // until headers, or until the failure
	Status     int       `json:"status,omitempty"` // 0 = no answer
	Reason     string    `json:"reason,omitempty"` // throttled, server-error, refused, reset, first-byte-timeout, …; empty = answered
	RequestID  string    `json:"requestId,omitempty"`
}

// Record is one request from its arrival to its end. Package front creates it, every step adds what it learns, and audit
// writes it. It belongs to the request's goroutine.
type Record struct {
	ID   string    `json:"id"`
	Time time.Time `json:"time"` // arrival
	Caller

	Method      string `json:"method"`
	URL         string `json:"url"` // path and query without keys
	Operation   string `json:"operation,omitempty"`
	Surface     string `json:"surface,omitempty"` // classic or v1
	ClientAgent string `json:"userAgent,omitempty"`

	Model             string `json:"model,omitempty"`      // deployment or model name that the client asked for
	APIVersion        string `json:"apiVersion,omitempty"` // the client's
	Stream            bool   `json:"stream,omitempty"`
	EndUser           string `json:"endUser,omitempty"` // the request's "user" or "safety_identifier"
	Region            string `json:"region,omitempty"`
	Deployment        string `json:"deployment,omitempty"`
	BackendAPIVersion string `json:"backendApiVersion,omitempty"`
	AnsweredModel     string `json:"answeredModel,omitempty"` // the answer's own "model"

	Attempts []Attempt `json:"attempts,omitempty"`
	Usage    Usage     `json:"usage,omitzero"`
	Cost     *Cost     `json:"cost,omitempty"` // nil when the policy has no price

	Status         int     `json:"status,omitempty"` // sent to the client
	BackendStatus  int     `json:"backendStatus,omitempty"`
	Outcome        Outcome `json:"outcome,omitempty"`
	ErrorReason    string  `json:"errorReason,omitempty"`
	ErrorMessage   string  `json:"errorMessage,omitempty"`
	Limit          string  `json:"limit,omitempty"`
	LimitDegraded  bool    `json:"limitDegraded,omitempty"` // a limit was applied while its store could not be reached
	FirstByteMilli int64   `json:"firstByteMs,omitempty"`
	TotalMilli     int64   `json:"totalMs,omitempty"`

	Redactions int   `json:"redactions,omitempty"` // matches of personal data removed from the bodies below
	Request    *Body `json:"request,omitempty"`
	Response   *Body `json:"response,omitempty"`
}
