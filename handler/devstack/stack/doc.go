// Package stack stages the Functions app and runs everything it needs on this machine:
// Azurite, two simulated Azure OpenAI regions, a Log Analytics sink, a managed-identity endpoint, and the staged
// app behind a Functions host. It is the devstack command's library and what end-to-end
// tests start.
//
// A staged app is
//
//	dist/app/host.json
//	dist/app/bin/gateway            static, 0755
//	dist/app/policy.yaml
//	dist/app/<function>/function.json
//	dist/app/local.settings.json    only with Here: for `func start`
//	dist/app.zip                    the same without local settings, reproducible, with Unix modes
//
// because the host finds function.json only one level below its root.
package stack
