// Package app is the program: it reads the settings and the policy, opens the services,
// puts the packages together and serves.
package app
