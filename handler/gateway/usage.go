package gateway

// Cost is the price of one answer.
type Cost struct {
	Millionths   int64  `json:"millionths"` // of the currency's unit
	Currency     string `json:"currency,omitempty"`
	PriceVersion string `json:"priceVersion,omitempty"`
}

// Usage counts the tokens of one answer. Cached is part of Prompt, and Reasoning is part of
// Completion, as the service reports them.
type Usage struct {
	Prompt     int64 `json:"prompt"`
	Cached     int64 `json:"cached,omitempty"`
	Completion int64 `json:"completion"`
	Reasoning  int64 `json:"reasoning,omitempty"`
	Audio      int64 `json:"audio,omitempty"`
	Total      int64 `json:"total"`
	Estimated  bool  `json:"estimated,omitempty"` // counted by us from what was seen, not by the service
}
