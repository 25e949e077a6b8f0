// Package openai knows the parts of Azure OpenAI's protocol that the gateway needs: the
// operations (in operations.json: the classic surface with api-version, and the v1
// surface), the fields of requests that the gateway decides by, the edits that it makes to
// requests, and usage, errors and events in answers. The gateway passes everything else on
// unchanged.
package openai
