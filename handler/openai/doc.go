// Package openai is the wire format of Azure OpenAI as far as the gateway must know it:
// which operations there are (operations.json, the classic surface with its api-version
// and the v1 surface), the request fields that decide something, the few edits we make,
// usage and errors in answers, and the assembly of a stream into the equivalent whole
// object. Everything else passes as bytes.
package openai
