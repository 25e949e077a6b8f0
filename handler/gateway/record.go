package gateway

import "time"

// Outcome says how a request ended for the client.
type Outcome string

// The outcomes of a request.
const (
	Complete      Outcome = "complete"         // the client received a whole answer, which may be an error
	Refused       Outcome = "refused"          // the gateway answered without sending the request to a region
	ClientLeft    Outcome = "client-cancelled" // the client closed the connection before the end
	UpstreamCut   Outcome = "upstream-cut"     // the region broke the answer off after the commit point
	NotDurable    Outcome = "not-durable"      // the answer was not sent, because its record could not be made durable in time
	GatewayFailed Outcome = "gateway-failed"   // the gateway failed or ended the request
)

// Attempt is one request that was sent to a region.
type Attempt struct {
	Region     string    `json:"region"`
	Deployment string    `json:"deployment,omitempty"`
	APIVersion string    `json:"apiVersion,omitempty"`
	Start      time.Time `json:"start"`
	Millis     int64     `json:"ms"`               // milliseconds until the answer's headers, or until the failure
	Status     int       `json:"status,omitempty"` // 0 = no answer
	Reason     string    `json:"reason,omitempty"` // why it failed: throttled, server-error, refused, …; empty = answered
	RequestID  string    `json:"requestId,omitempty"`
}

// Record describes one request from its arrival to its end. Package front creates it, other
// packages add what they learn, and package audit writes it to the journal. Only the
// request's goroutine uses it.
type Record struct {
	ID   string    `json:"id"`
	Time time.Time `json:"time"` // when the request arrived
	Caller

	Method      string `json:"method"`
	URL         string `json:"url"` // path and query, without keys
	Operation   string `json:"operation,omitempty"`
	Surface     string `json:"surface,omitempty"` // classic or v1
	ClientAgent string `json:"userAgent,omitempty"`

	Model             string `json:"model,omitempty"`      // the deployment or model that the client asked for
	APIVersion        string `json:"apiVersion,omitempty"` // as the client sent it
	Stream            bool   `json:"stream,omitempty"`
	EndUser           string `json:"endUser,omitempty"` // "user" or "safety_identifier" in the request
	Region            string `json:"region,omitempty"`
	Deployment        string `json:"deployment,omitempty"`
	BackendAPIVersion string `json:"backendApiVersion,omitempty"`
	AnsweredModel     string `json:"answeredModel,omitempty"` // "model" in the answer

	Attempts []Attempt `json:"attempts,omitempty"`
	Usage    Usage     `json:"usage,omitzero"`
	Cost     *Cost     `json:"cost,omitempty"` // nil = the policy has no price for the model

	Status         int     `json:"status,omitempty"` // status that the client received
	BackendStatus  int     `json:"backendStatus,omitempty"`
	Outcome        Outcome `json:"outcome,omitempty"`
	ErrorReason    string  `json:"errorReason,omitempty"`
	ErrorMessage   string  `json:"errorMessage,omitempty"`
	Limit          string  `json:"limit,omitempty"`
	LimitDegraded  bool    `json:"limitDegraded,omitempty"` // a limit admitted the request in degraded mode
	FirstByteMilli int64   `json:"firstByteMs,omitempty"`
	TotalMilli     int64   `json:"totalMs,omitempty"`

	Redactions int   `json:"redactions,omitempty"` // number of matches of personal data that were removed from the bodies
	Request    *Body `json:"request,omitempty"`
	Response   *Body `json:"response,omitempty"`
}
