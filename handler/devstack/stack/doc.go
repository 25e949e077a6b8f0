// Package stack builds the Functions app, and runs everything that the gateway needs on
// this machine: Azurite, two simulated Azure OpenAI regions, a stand-in for Log Analytics,
// a managed-identity endpoint, and the app behind a Functions host. The command devstack
// and the tests of the whole program use it.
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
// The functions are directly below the root, because the host finds function.json only one
// level below it.
package stack
