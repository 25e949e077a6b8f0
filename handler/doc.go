// Gateway is the program a company puts in front of Azure OpenAI: one process that the
// Azure Functions host starts as its custom handler, and the command line that manages it.
//
// A request travels front → auth → proxy → quota → backend and back through proxy, where
// a copy of the answer feeds audit. The packages below this folder, top to bottom:
//
//	front                       routes, records, error rendering
//	proxy  admin  derive        one inference request; management; consumers of the journal
//	auth  quota  backend        who calls; may they; which region answers
//	audit                       begin and end records of every exchange
//	table  journal  secret      Table Storage, Blob Storage, Key Vault, each with a memory twin
//	policy  openai  sse  breaker  products and limits; the wire format; event framing; the breaker
//	gateway  idle  backoff      the vocabulary everything above speaks; time limits; pauses
//
// A package imports only rows below its own, and never its neighbours; a test holds it
// to that. aoaisim, funchost and devstack are the local stand-ins and are never linked
// into the program.
package main
