package harness

const (
	ChatPath = "/openai/deployments/chat/chat/completions?api-version=2024-10-21"
	ChatBody = `{"messages":[{"role":"user","content":"say something [tokens:6]"}],"seed":1}`
	// Without stream_options the gateway asks for usage and takes the extra chunk out again.
	ChatStream = `{"messages":[{"role":"user","content":"say something [tokens:6]"}],"seed":1,"stream":true}`
)
