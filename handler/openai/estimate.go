package openai

// EstimateTokens estimates the tokens of a text from its length: four bytes are about one
// token.
func EstimateTokens(bytes int64) int64 { return (bytes + 3) / 4 }

// messageOverhead is the largest number of tokens that the chat format adds to a message.
const messageOverhead = 16

// PromptEstimate returns the probable number of prompt tokens, computed from the lengths of
// the texts. Soft limits hold it before the request is sent.
func (r Request) PromptEstimate() int64 { return EstimateTokens(r.PromptBytes) + 4*r.Messages }

// Bound returns the largest number of tokens that an answer to r can use. A token stands
// for at least one byte, so the prompt has at most as many tokens as bytes. ok is false if
// the request has no output cap, or if its prompt is not all text; then only the model's
// context window bounds the tokens.
func (r Request) Bound(kind Kind) (tokens int64, ok bool) {
	if r.NotAllText || (r.MaxOutput == 0 && kind != Embeddings) {
		return 0, false
	}
	return r.PromptBytes + messageOverhead*r.Messages + r.MaxOutput*r.Choices, true
}
