package gateway

// Caller is who sent a request, as far as it could be proved.
type Caller struct {
	Subscription string `json:"subscription,omitempty"` // stable id; survives key rotation
	Name         string `json:"name,omitempty"`         // the subscription's display name
	Product      string `json:"product,omitempty"`      // names the limits that apply
	KeySlot      string `json:"keySlot,omitempty"`      // primary or secondary
	User         string `json:"user,omitempty"`         // Entra object id, when a token proved one
	IP           string `json:"ip,omitempty"`           // empty when no trusted hop named it
}
