package gateway

// Cost is the price of one answer.
type Cost struct {
	Millionths   int64  `json:"millionths"` // millionths of the currency's unit
	Currency     string `json:"currency,omitempty"`
	PriceVersion string `json:"priceVersion,omitempty"`
}

// Usage has the numbers of tokens of one answer. As in the service's reports, Cached is
// part of Prompt, and Reasoning is part of Completion.
type Usage struct {
	Prompt     int64 `json:"prompt"`
	Cached     int64 `json:"cached,omitempty"`
	Completion int64 `json:"completion"`
	Reasoning  int64 `json:"reasoning,omitempty"`
	Audio      int64 `json:"audio,omitempty"`
	Total      int64 `json:"total"`
	Estimated  bool  `json:"estimated,omitempty"` // the service reported no tokens, so the gateway counted or estimated them
}
