package openai

import "strings"

// LiftVersion returns the api-version to send: the client's, or floor if the client's is
// older. Versions that do not begin with a date (preview, latest) are not changed.
func LiftVersion(client, floor string) string {
	const date = len("2024-10-21")
	if len(client) < date || len(floor) < date || strings.Count(client[:date], "-") != 2 || client[0] != '2' {
		return client
	}
	older := client[:date] < floor[:date] ||
		client[:date] == floor[:date] && len(client) > date && len(floor) == date
	if older {
		return floor
	}
	return client
}
