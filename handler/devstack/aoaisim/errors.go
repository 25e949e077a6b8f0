package aoaisim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// apiError is an error with the text of the real service.
type apiError struct {
	status int
	body   any
	header http.Header
}

// coded returns an error with code and message only, as the service's front end sends it.
func coded(status int, code, message string) *apiError {
	return &apiError{status: status, body: map[string]any{"error": map[string]any{"code": code, "message": message}}}
}

// invalid returns an error in the form that the models behind the front end send.
func invalid(message string, param, code any) *apiError {
	return &apiError{status: http.StatusBadRequest, body: map[string]any{"error": map[string]any{
		"message": message, "type": "invalid_request_error", "param": param, "code": code,
	}}}
}

func wrongKey() *apiError {
	return coded(http.StatusUnauthorized, "401", "Access denied due to invalid subscription key or wrong API endpoint. "+
		"Make sure to provide a valid key for an active subscription and use a correct regional API endpoint for your resource.")
}

func wrongToken() *apiError {
	return &apiError{status: http.StatusUnauthorized, body: map[string]any{
		"statusCode": http.StatusUnauthorized,
		"message": "Unauthorized. Access token is missing, invalid, audience is incorrect (https://cognitiveservices.azure.com), or have " +
			"expired.",
	}}
}

func resourceNotFound() *apiError { return coded(http.StatusNotFound, "404", "Resource not found") }

func deploymentNotFound() *apiError {
	return coded(http.StatusNotFound, "DeploymentNotFound", "The API deployment for this resource does not exist. "+
		"If you created the deployment within the last 5 minutes, please wait a moment and try again.")
}

func notJSON() *apiError {
	return invalid("We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library correctly. "+
		"The OpenAI API expects a JSON payload, but what was sent was not valid JSON. If you have trouble figuring out how to fix this, "+
		"please contact us "+
		"through an Azure support request at: https://go.microsoft.com/fwlink/?linkid=2213926 for further questions.)", nil, nil)
}

func throttled(t route, v admission) *apiError {
	seconds := int((v.wait + time.Second - 1) / time.Second)
	version := t.apiVersion
	if version == "" {
		version = "v1"
	}
	e := coded(http.StatusTooManyRequests, "429", fmt.Sprintf("Requests to the %s Operation under Azure OpenAI API version %s have "+
		"exceeded %s rate limit "+
		"of your current OpenAI S0 pricing tier. Please retry after %d seconds. Please go here: https://aka.ms/oai/quotaincrease "+
		"if you would like to further increase the default rate limit.", t.name(), version, v.what, seconds))
	e.header = http.Header{}
	e.header.Set("Retry-After", strconv.Itoa(seconds))
	e.header.Set("retry-after-ms", strconv.FormatInt(v.wait.Milliseconds(), 10))
	return e
}

func (x *exchange) fail(e *apiError) {
	body, _ := json.Marshal(e.body)
	for name, values := range e.header {
		x.w.Header()[http.CanonicalHeaderKey(name)] = values
	}
	x.json(e.status, body)
}
