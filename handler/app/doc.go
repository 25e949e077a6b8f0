// Package app is the program: it opens the services that the settings name, puts the
// packages together and serves.
package app
