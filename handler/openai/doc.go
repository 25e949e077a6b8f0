// Package openai is the wire format of Azure OpenAI as far as the gateway must know it:
// the table of operations (operations.json: the classic surface with its api-version and
// the v1 surface), the fields of a request that decide something, the few edits that the
// gateway makes, and usage, errors and the meaning of events in answers. Everything else
// passes as bytes.
package openai
