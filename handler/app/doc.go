// Package app builds the program: it opens the services that the settings name, connects
// the packages and serves requests.
package app
