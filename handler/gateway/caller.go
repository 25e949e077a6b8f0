package gateway

// Caller says who sent a request, as far as it is proved.
type Caller struct {
	Subscription string `json:"subscription,omitempty"` // id of the subscription; it never changes
	Name         string `json:"name,omitempty"`         // the subscription's display name
	Product      string `json:"product,omitempty"`      // name of the product, whose limits apply
	KeySlot      string `json:"keySlot,omitempty"`      // which key was used: primary or secondary
	User         string `json:"user,omitempty"`         // Entra object id; empty = no token proved a user
	IP           string `json:"ip,omitempty"`           // empty = no trusted server named the address
}
