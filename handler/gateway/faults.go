package gateway

// The catalogue of faults. Every error that a client or a record shows is one of these.
var (

	// Faults of the gateway and its storage.

	InternalServerError = define(Fault{
		Kind: Internal, Code: "InternalServerError", Fixer: ByOperator,
		Meaning: "The gateway has a defect; its log has the cause under the request's id.",
	})
	Panic = define(Fault{
		Kind: Internal, Code: "Panic", Fixer: ByOperator,
		Meaning: "The gateway has a defect that ended the request; its log has the stack.",
	})
	StorageUnavailable = define(Fault{
		Kind: Unavailable, Code: "StorageUnavailable", Fixer: ByWaiting,
		Message: "The gateway cannot reach its storage now. Try again.",
		Meaning: "Table Storage cannot be reached.",
	})
	AuditLogUnavailable = define(Fault{
		Kind: Unavailable, Code: "AuditLogUnavailable", Fixer: ByWaiting,
		Meaning: "The record of the request cannot be made durable, so the answer is not sent.",
	})
	RequestBodiesFull = define(Fault{
		Kind: Unavailable, Code: "RequestBodiesFull", Fixer: ByWaiting,
		Message: "The gateway holds as many request bodies as it has room for. Try again in 1 second.",
		Meaning: "The request bodies that the instance holds, or those of this caller, leave no room for another.",
	})
	ClientConnectionFailure = define(Fault{
		Kind: ClientGone, Code: "ClientConnectionFailure", Fixer: ByCaller,
		Message: "The client closed the connection before the answer was complete.",
		Meaning: "The client closed the connection; only the record shows this error (status 499).",
	})

	// Faults of the request.

	MalformedRequest = define(Fault{
		Kind: BadRequest, Code: "BadRequest", Fixer: ByCaller,
		Meaning: "The body cannot be parsed, or a field has a wrong type.",
	})
	MissingModel = define(Fault{
		Kind: BadRequest, Code: "missing_model", Fixer: ByCaller,
		Message: `The request body must name a deployment in "model".`,
		Meaning: "The request names no deployment.",
	})
	BodyBroken = define(Fault{
		Kind: BodyIncomplete, Code: "ClientConnectionFailure", Fixer: ByCaller,
		Meaning: "The request body ended early or paused for too long.",
	})
	RequestEntityTooLarge = define(Fault{
		Kind: TooLarge, Code: "RequestEntityTooLarge", Fixer: ByCaller,
		Meaning: "The request body is longer than GATEWAY_MAX_BODY_MB.",
	})
	RequestHeaderFieldsTooLarge = define(Fault{
		Kind: HeaderTooLarge, Code: "RequestHeaderFieldsTooLarge", Fixer: ByCaller,
		Meaning: "The URL and the headers together are longer than 64 KiB.",
	})
	ResourceNotFound = define(Fault{
		Kind: NotFound, Code: "404", Fixer: ByCaller,
		Message: "Resource not found",
		Meaning: "A classic path has no api-version. The error has the same text as Azure's.",
	})
	OperationNotFound = define(Fault{
		Kind: NotFound, Code: "OperationNotFound", Fixer: ByCaller,
		Message: "Unable to match incoming request to an operation.",
		Meaning: "The gateway has no operation with this path and method.",
	})
	DeploymentNotFound = define(Fault{
		Kind: NotFound, Code: "DeploymentNotFound", Fixer: ByCaller,
		Message: "The API deployment for this resource does not exist. If you created the deployment within the last " +
			"5 minutes, please wait a moment and try again.",
		Meaning: "No region serves the model that the request names. The error has the same text as Azure's.",
	})
	ResponseNotFound = define(Fault{
		Kind: NotFound, Code: "response_not_found", Fixer: ByCaller,
		Meaning: "The caller has no stored response with this id.",
	})
	PreviousResponseNotFound = define(Fault{
		Kind: NotFound, Code: "previous_response_not_found", Fixer: ByCaller,
		Meaning: "The caller has no stored response with the id in previous_response_id.",
	})
	MayBeDone = define(Fault{
		Kind: BadRequest, Code: "MayBeDone", Fixer: ByCaller,
		Message: "The gateway restarted while it served this request, so the request may have been carried out. " +
			"Look for its result before you send it again.",
		Meaning: "A request without a body that creates something was delivered twice, because the gateway died during the first delivery.",
	})
	RealtimeNotSupported = define(Fault{
		Kind: Unsupported, Code: "RealtimeNotSupported", Fixer: ByCaller,
		Message: "Realtime needs WebSockets, which the Azure Functions host does not support. Connect to a region directly.",
		Meaning: "The request needs a WebSocket, which the Functions host does not support.",
	})

	// Faults of keys and tokens.

	SubscriptionKeyNotFound = define(Fault{
		Kind: Unauthenticated, Code: "SubscriptionKeyNotFound", Fixer: ByCaller,
		Message: "Access denied due to missing subscription key. Make sure to include subscription key when making requests to an API.",
		Meaning: "The request has no key and no token.",
	})
	SubscriptionKeyInvalid = define(Fault{
		Kind: Unauthenticated, Code: "SubscriptionKeyInvalid", Fixer: ByCaller,
		Message: "Access denied due to invalid subscription key. Make sure to provide a valid key for an active subscription.",
		Meaning: "The key is unknown, or its subscription is suspended or cancelled.",
	})
	TokenNotAccepted = define(Fault{
		Kind: Unauthenticated, Code: "TokenNotAccepted", Fixer: ByCaller,
		Message: "Access denied: this gateway does not accept Entra tokens. Send a subscription key in the api-key header.",
		Meaning: "The request has an Entra token, but the gateway has no settings for Entra.",
	})
	JwtInvalid = define(Fault{
		Kind: Unauthenticated, Code: "JwtInvalid", Fixer: ByCaller,
		Meaning: "The Entra token cannot be parsed.",
	})
	TokenExpired = define(Fault{
		Kind: Unauthenticated, Code: "TokenExpired", Fixer: ByCaller,
		Meaning: "The Entra token has expired.",
	})
	TokenNotValidYet = define(Fault{
		Kind: Unauthenticated, Code: "TokenNotValidYet", Fixer: ByCaller,
		Meaning: "The Entra token is not valid yet.",
	})
	TokenIssuerNotAllowed = define(Fault{
		Kind: Unauthenticated, Code: "TokenIssuerNotAllowed", Fixer: ByCaller,
		Meaning: "Another tenant issued the Entra token.",
	})
	TokenAudienceNotAllowed = define(Fault{
		Kind: Unauthenticated, Code: "TokenAudienceNotAllowed", Fixer: ByCaller,
		Meaning: "The Entra token was issued for another application.",
	})
	TokenClaimNotFound = define(Fault{
		Kind: Unauthenticated, Code: "TokenClaimNotFound", Fixer: ByCaller,
		Meaning: "The Entra token lacks a claim that access tokens have.",
	})
	TokenSignatureInvalid = define(Fault{
		Kind: Unauthenticated, Code: "TokenSignatureInvalid", Fixer: ByCaller,
		Meaning: "The signature of the Entra token does not verify.",
	})
	TokenSignatureKeyNotFound = define(Fault{
		Kind: Unauthenticated, Code: "TokenSignatureKeyNotFound", Fixer: ByCaller,
		Meaning: "The tenant does not publish the key that signed the Entra token.",
	})
	IssuerUnavailable = define(Fault{
		Kind: Unavailable, Code: "IssuerUnavailable", Fixer: ByWaiting,
		Message: "The gateway cannot reach Entra to check the token now. Try again, or send a subscription key without a token.",
		Meaning: "Entra's signing keys cannot be fetched.",
	})
	AdminKeyNotFound = define(Fault{
		Kind: Unauthenticated, Code: "AdminKeyNotFound", Fixer: ByCaller,
		Message: "Access denied: send the admin key in the api-key header, or as a Bearer token.",
		Meaning: "A call to /manage has no admin key and no token.",
	})
	AdminKeyInvalid = define(Fault{
		Kind: Unauthenticated, Code: "AdminKeyInvalid", Fixer: ByCaller,
		Message: "Access denied: this is not the admin key.",
		Meaning: "A call to /manage has a key that is not the admin key.",
	})
	AdminKeyUnavailable = define(Fault{
		Kind: Unavailable, Code: "AdminKeyUnavailable", Fixer: ByWaiting,
		Message: "The gateway cannot read the secret that holds the admin key now. Try again.",
		Meaning: "Key Vault cannot be reached.",
	})

	// Refusals by the policy and its limits.

	TokenClaimValueNotAllowed = define(Fault{
		Kind: Forbidden, Code: "TokenClaimValueNotAllowed", Fixer: ByOperator,
		Meaning: "The Entra token lacks the app role for the product or for management.",
	})
	ProductNotFound = define(Fault{
		Kind: Forbidden, Code: "ProductNotFound", Fixer: ByOperator,
		Message: "The policy of this gateway does not have the product of this subscription.",
		Meaning: "The subscription's product is not in the policy.",
	})
	ModelNotAllowed = define(Fault{
		Kind: Forbidden, Code: "ModelNotAllowed", Fixer: ByOperator,
		Meaning: "The product does not include the model.",
	})
	OperationNotMetered = define(Fault{
		Kind: Forbidden, Code: "OperationNotMetered", Fixer: ByCaller,
		Meaning: "The product has hard limits, and the gateway cannot count the tokens of this operation in advance.",
	})
	ModelNotPriced = define(Fault{
		Kind: Forbidden, Code: "ModelNotPriced", Fixer: ByOperator,
		Meaning: "A limit counts cost, and the policy has no price for the model.",
	})
	CallerIPNotAllowed = define(Fault{
		Kind: Forbidden, Code: "CallerIpNotAllowed", Fixer: ByOperator,
		Meaning: "A limit counts by address, and the caller's address is not known.",
	})
	RateLimitExceeded = define(Fault{
		Kind: RateLimited, Code: "RateLimitExceeded", Fixer: ByWaiting,
		Meaning: "A limit per minute or on concurrent requests is used up, or every region is at its rate limit.",
	})
	QuotaUsedUp = define(Fault{
		Kind: QuotaExceeded, Code: "QuotaExceeded", Fixer: ByWaiting,
		Meaning: "A limit longer than a minute is used up.",
	})
	LimitUnavailable = define(Fault{
		Kind: Unavailable, Code: "LimitUnavailable", Fixer: ByWaiting,
		Meaning: "Table Storage cannot be reached, so a hard limit cannot be checked.",
	})
	ConcurrencySlotLost = define(Fault{
		Kind: Unavailable, Code: "ConcurrencySlotLost", Fixer: ByWaiting,
		Meaning: "The request's slot in a limit on concurrent requests could not be renewed, so the request was ended.",
	})

	// Faults of regions.

	BackendConnectionFailure = define(Fault{
		Kind: Unavailable, Code: "BackendConnectionFailure", Fixer: ByWaiting,
		Meaning: "No region that may serve the request can be reached.",
	})
	BackendCredentialRefused = define(Fault{
		Kind: BadGateway, Code: "BackendCredentialRefused", Fixer: ByOperator,
		Meaning: "A region refuses the credential of the gateway.",
	})
	Timeout = define(Fault{
		Kind: TimedOut, Code: "Timeout", Fixer: ByWaiting,
		Meaning: "No region answered in time.",
	})
	UpstreamError = define(Fault{
		Kind: BadGateway, Code: "upstream_error", Fixer: ByWaiting,
		Message: "The region did not answer with a stream.",
		Meaning: "A region answered a request for a stream with an answer that is no stream.",
	})
	UpstreamBrokeOff = define(Fault{
		Kind: BadGateway, Code: "upstream_cut", Fixer: ByWaiting,
		Message: "The region broke off the answer. What was received is incomplete; send the request again.",
		Meaning: "A region broke off a stream that had begun.",
	})
	StreamTruncated = define(Fault{
		Kind: BadGateway, Code: "StreamTruncated", Fixer: ByWaiting,
		Meaning: "A region broke off its answer; only the record shows this error.",
	})
	RegionPinned = define(Fault{
		Kind: Unavailable, Code: "RegionPinned", Fixer: ByWaiting,
		Meaning: "Only one region could serve the request, and its error was passed on; only the record shows this code.",
	})

	// Faults of management calls.

	InvalidQuery = define(Fault{
		Kind: BadRequest, Code: "invalid_query", Fixer: ByCaller,
		Meaning: "A parameter of a usage query is not valid.",
	})
	InvalidProduct = define(Fault{
		Kind: BadRequest, Code: "invalid_product", Fixer: ByCaller,
		Meaning: "The policy does not have the product.",
	})
	InvalidID = define(Fault{
		Kind: BadRequest, Code: "invalid_id", Fixer: ByCaller,
		Meaning: "A subscription id is malformed or already in use.",
	})
	InvalidKey = define(Fault{
		Kind: BadRequest, Code: "invalid_key", Fixer: ByCaller,
		Meaning: "A subscription key is malformed or already in use.",
	})
	InvalidState = define(Fault{
		Kind: BadRequest, Code: "invalid_state", Fixer: ByCaller,
		Meaning: "A cancelled subscription cannot change its state.",
	})
	SubscriptionNotFound = define(Fault{
		Kind: NotFound, Code: "SubscriptionNotFound", Fixer: ByCaller,
		Meaning: "There is no subscription with this id.",
	})
	SubscriptionChanging = define(Fault{
		Kind: Unavailable, Code: "SubscriptionChanging", Fixer: ByWaiting,
		Meaning: "Other requests changed the subscription at the same time.",
	})
)

// catalogue is filled while the variables above are initialized, in their order.
var catalogue []Fault

func define(f Fault) Fault {
	catalogue = append(catalogue, f)
	return f
}

// Catalogue returns all faults in the order of the README.
func Catalogue() []Fault { return catalogue }
