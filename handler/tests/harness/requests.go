// Package harness starts the whole program, in this process or as real processes, for
// tests. It has simulated regions, storage and clients, and it checks the journal
// afterwards.
package harness

import "aoaigateway/handler/devstack/aoaisim"

// The bodies of a chat request, without and with a stream.
const (
	ChatPath = "/openai/deployments/chat/chat/completions?api-version=2024-10-21"
	ChatBody = `{"messages":[{"role":"user","content":"say something [tokens:6]"}],"seed":1}`
	// The request has no stream_options, so the gateway asks for usage and removes the extra chunk.
	ChatStream = `{"messages":[{"role":"user","content":"say something [tokens:6]"}],"seed":1,"stream":true}`
)

// Asked lists method and URL of the last requests that a region received.
func Asked(region *aoaisim.Region) (list []string) {
	for _, x := range region.Exchanges() {
		list = append(list, x.Method+" "+x.URL)
	}
	return list
}
