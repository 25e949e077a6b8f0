// The private variant's only way in: a public address, two firewall policies, an Application Gateway.
param location string
param tags object

@minLength(13)
param token string
param subnetId string
param siteHostName string
param functionPrivateEndpoint bool

@description('Versionless address of the certificate\'s secret.')
param certificateUri string
param dnsLabel string
param wafMode string
param manageSources string
param minCapacity int
param maxCapacity int
param accessLog bool
param workspaceId string
param alerts bool
param actionGroupId string

var gatewayName = 'agw-${token}'
var gatewayId = resourceId('Microsoft.Network/applicationGateways', gatewayName)

// SDKs want JSON, and the firewall's own answer is HTML.
var refusal = base64('{"error":{"code":"firewall","message":"The firewall in front of the gateway refused the request."}}')

// A rule that a request met writes the request's values into the log; keys and prompts are among them.
var scrubbing = [
  { matchVariable: 'RequestHeaderNames', selectorMatchOperator: 'EqualsAny', selector: '*', state: 'Enabled' }
  { matchVariable: 'RequestCookieNames', selectorMatchOperator: 'EqualsAny', selector: '*', state: 'Enabled' }
  { matchVariable: 'RequestArgNames', selectorMatchOperator: 'EqualsAny', selector: '*', state: 'Enabled' }
  { matchVariable: 'RequestPostArgNames', selectorMatchOperator: 'EqualsAny', selector: '*', state: 'Enabled' }
  { matchVariable: 'RequestJSONArgNames', selectorMatchOperator: 'EqualsAny', selector: '*', state: 'Enabled' }
]

var ruleSets = [
  { ruleSetType: 'Microsoft_DefaultRuleSet', ruleSetVersion: '2.1' }
  { ruleSetType: 'Microsoft_BotManagerRuleSet', ruleSetVersion: '1.1' }
]

// Cookies of other applications on the same domain reach the gateway too, which reads none.
var exclusions = [
  {
    matchVariable: 'RequestCookieValues'
    selectorMatchOperator: 'EqualsAny'
    selector: '*'
    exclusionManagedRuleSets: [
      {
        ruleSetType: 'Microsoft_DefaultRuleSet'
        ruleSetVersion: '2.1'
        ruleGroups: [
          { ruleGroupName: 'SQLI' }
          { ruleGroupName: 'MS-ThreatIntel-SQLI' }
        ]
      }
    ]
  }
]

// The Functions host resolves dot segments behind the firewall: /openai/../manage would be looked at as a prompt and answered
// as management. The rewrite of doubled slashes decodes a path once more, and it is not certain whether the firewall looks
// before or after it: so dots are refused however often they are encoded.
var noDots = {
  name: 'nodots'
  priority: 1
  ruleType: 'MatchRule'
  action: 'Block'
  matchConditions: [
    {
      matchVariables: [{ variableName: 'RequestUri' }]
      operator: 'Regex'
      transforms: ['Lowercase']
      matchValues: ['^[^?]*([.][.]|%(25)*2e)']
    }
  ]
}
var manageByAddress = {
  name: 'manage'
  priority: 10
  ruleType: 'MatchRule'
  action: 'Block'
  matchConditions: [
    {
      matchVariables: [{ variableName: 'RequestUri' }]
      operator: 'Contains'
      transforms: ['UrlDecode', 'Lowercase']
      matchValues: ['manage']
    }
    {
      matchVariables: [{ variableName: 'RemoteAddr' }]
      operator: 'IPMatch'
      negationConditon: true
      matchValues: split(replace(manageSources, ' ', ''), ',')
    }
  ]
}

// Made in store.bicep, minutes earlier: a role that is seconds old is not known everywhere.
resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = {
  name: 'id-edge-${token}'
}

resource address 'Microsoft.Network/publicIPAddresses@2025-05-01' = {
  name: 'pip-${token}'
  location: location
  tags: tags
  sku: { name: 'Standard' }
  zones: pickZones('Microsoft.Network', 'publicIPAddresses', location, 3)
  properties: {
    publicIPAllocationMethod: 'Static'
    // A whole answer may take 220 s; the default of four minutes leaves little.
    idleTimeoutInMinutes: 10
    dnsSettings: { domainNameLabel: dnsLabel }
  }
}

// For everything but /openai: management, health, and whatever scanners try. Bodies are inspected whole.
resource firewall 'Microsoft.Network/ApplicationGatewayWebApplicationFirewallPolicies@2025-05-01' = {
  // checkov:skip=CKV_AZURE_135:rule set 2.1 has the rule, 944240, in group JAVA; the check knows rule set 3.1 only
  name: 'waf-${token}'
  location: location
  tags: tags
  properties: {
    policySettings: {
      state: 'Enabled'
      mode: wafMode
      requestBodyCheck: true
      requestBodyInspectLimitInKB: 128
      requestBodyEnforcement: true
      maxRequestBodySizeInKb: 128
      fileUploadEnforcement: true
      fileUploadLimitInMb: 1
      customBlockResponseStatusCode: 403
      customBlockResponseBody: refusal
      logScrubbing: { state: 'Enabled', scrubbingRules: scrubbing }
    }
    customRules: empty(manageSources) ? [noDots] : [noDots, manageByAddress]
    managedRules: { managedRuleSets: ruleSets, exclusions: exclusions }
  }
}

// For prompts. They are full of code, logs and markup, which the rules take for attacks, and they are longer than what the
// firewall looks at. It inspects headers, cookies, paths and queries, and no bodies; the gateway limits their size.
resource promptsFirewall 'Microsoft.Network/ApplicationGatewayWebApplicationFirewallPolicies@2025-05-01' = {
  // checkov:skip=CKV_AZURE_135:rule set 2.1 has the rule, 944240, in group JAVA; the check knows rule set 3.1 only
  name: 'waf-prompts-${token}'
  location: location
  tags: tags
  properties: {
    policySettings: {
      state: 'Enabled'
      mode: wafMode
      requestBodyCheck: false
      requestBodyEnforcement: false
      fileUploadEnforcement: false
      customBlockResponseStatusCode: 403
      customBlockResponseBody: refusal
      logScrubbing: { state: 'Enabled', scrubbingRules: scrubbing }
    }
    customRules: [noDots]
    managedRules: { managedRuleSets: ruleSets, exclusions: exclusions }
  }
}

resource gateway 'Microsoft.Network/applicationGateways@2025-05-01' = {
  name: gatewayName
  location: location
  tags: tags
  zones: pickZones('Microsoft.Network', 'applicationGateways', location, 3)
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identity.id}': {} }
  }
  properties: {
    sku: { name: 'WAF_v2', tier: 'WAF_v2' }
    autoscaleConfiguration: { minCapacity: minCapacity, maxCapacity: maxCapacity }
    enableHttp2: true
    firewallPolicy: { id: firewall.id }
    sslPolicy: { policyType: 'Predefined', policyName: 'AppGwSslPolicy20220101S' }
    // Response buffering holds streams back. Request buffering cannot be switched off with a firewall.
    globalConfiguration: { enableRequestBuffering: true, enableResponseBuffering: false }
    gatewayIPConfigurations: [
      {
        name: 'subnet'
        properties: { subnet: { id: subnetId } }
      }
    ]
    frontendIPConfigurations: [
      {
        name: 'public'
        properties: { publicIPAddress: { id: address.id } }
      }
    ]
    frontendPorts: [
      { name: 'https', properties: { port: 443 } }
    ]
    sslCertificates: [
      {
        // Without a version, so that a new one is picked up, within four hours.
        name: 'certificate'
        properties: { keyVaultSecretId: certificateUri }
      }
    ]
    backendAddressPools: [
      {
        name: 'app'
        properties: { backendAddresses: [{ fqdn: siteHostName }] }
      }
    ]
    backendHttpSettingsCollection: [
      {
        name: 'app'
        properties: {
          port: 443
          protocol: 'Https'
          pickHostNameFromBackendAddress: true
          cookieBasedAffinity: 'Disabled'
          // Four minutes is the most that Azure allows to a backend without a private endpoint.
          requestTimeout: functionPrivateEndpoint ? 600 : 240
          // A change of the gateway ends open streams after this time; an hour is the longest that the program allows.
          connectionDraining: { enabled: true, drainTimeoutInSec: 3600 }
          probe: { id: '${gatewayId}/probes/app' }
        }
      }
    ]
    probes: [
      {
        name: 'app'
        properties: {
          protocol: 'Https'
          path: '/healthz'
          pickHostNameFromBackendHttpSettings: true
          interval: 60
          timeout: 30
          unhealthyThreshold: 3
          match: { statusCodes: ['200'] }
        }
      }
    ]
    httpListeners: [
      {
        name: 'https'
        properties: {
          frontendIPConfiguration: { id: '${gatewayId}/frontendIPConfigurations/public' }
          frontendPort: { id: '${gatewayId}/frontendPorts/https' }
          protocol: 'Https'
          sslCertificate: { id: '${gatewayId}/sslCertificates/certificate' }
        }
      }
    ]
    rewriteRuleSets: [
      {
        name: 'requests'
        properties: {
          rewriteRules: [
            {
              // The Functions host overwrites X-Forwarded-For. This replaces whatever a client sent.
              name: 'client-address'
              ruleSequence: 100
              actionSet: {
                requestHeaderConfigurations: [
                  { headerName: 'X-Gateway-Client-IP', headerValue: '{var_client_ip}' }
                ]
              }
            }
            {
              // The Functions host knows no path with a doubled slash, which older clients make.
              name: 'leading-slashes'
              ruleSequence: 200
              conditions: [
                { variable: 'var_uri_path', pattern: '^//+(openai/.*)', ignoreCase: true, negate: false }
              ]
              actionSet: {
                // Rerouted, so that the prompts' policy applies.
                urlConfiguration: { modifiedPath: '/{var_uri_path_1}', reroute: true }
              }
            }
            // The Functions host knows only the app's own name, which clients cannot reach.
            {
              name: 'location'
              ruleSequence: 300
              conditions: [
                { variable: 'http_resp_Location', pattern: '^https?://[^/]+(/.*)$', ignoreCase: true, negate: false }
              ]
              actionSet: {
                responseHeaderConfigurations: [
                  { headerName: 'Location', headerValue: 'https://{var_host}{http_resp_Location_1}' }
                ]
              }
            }
            {
              name: 'operation-location'
              ruleSequence: 310
              conditions: [
                { variable: 'http_resp_Operation-Location', pattern: '^https?://[^/]+(/.*)$', ignoreCase: true, negate: false }
              ]
              actionSet: {
                responseHeaderConfigurations: [
                  { headerName: 'Operation-Location', headerValue: 'https://{var_host}{http_resp_Operation-Location_1}' }
                ]
              }
            }
            {
              name: 'content-location'
              ruleSequence: 320
              conditions: [
                { variable: 'http_resp_Content-Location', pattern: '^https?://[^/]+(/.*)$', ignoreCase: true, negate: false }
              ]
              actionSet: {
                responseHeaderConfigurations: [
                  { headerName: 'Content-Location', headerValue: 'https://{var_host}{http_resp_Content-Location_1}' }
                ]
              }
            }
          ]
        }
      }
    ]
    // The strict policy is the default of the whole gateway; the prompts' policy is the exception.
    urlPathMaps: [
      {
        name: 'paths'
        properties: {
          defaultBackendAddressPool: { id: '${gatewayId}/backendAddressPools/app' }
          defaultBackendHttpSettings: { id: '${gatewayId}/backendHttpSettingsCollection/app' }
          defaultRewriteRuleSet: { id: '${gatewayId}/rewriteRuleSets/requests' }
          pathRules: [
            {
              name: 'prompts'
              properties: {
                paths: ['/openai/*']
                backendAddressPool: { id: '${gatewayId}/backendAddressPools/app' }
                backendHttpSettings: { id: '${gatewayId}/backendHttpSettingsCollection/app' }
                rewriteRuleSet: { id: '${gatewayId}/rewriteRuleSets/requests' }
                firewallPolicy: { id: promptsFirewall.id }
              }
            }
          ]
        }
      }
    ]
    requestRoutingRules: [
      {
        name: 'https'
        properties: {
          ruleType: 'PathBasedRouting'
          priority: 100
          httpListener: { id: '${gatewayId}/httpListeners/https' }
          urlPathMap: { id: '${gatewayId}/urlPathMaps/paths' }
        }
      }
    ]
  }
}

resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: gateway
  name: 'gateway'
  properties: {
    workspaceId: workspaceId
    // Otherwise the rows go to AzureDiagnostics, and the tables of their own stay empty.
    logAnalyticsDestinationType: 'Dedicated'
    logs: [
      // Its rows have the query, and with it the keys that clients send there.
      { category: 'ApplicationGatewayAccessLog', enabled: accessLog }
      { category: 'ApplicationGatewayFirewallLog', enabled: true }
    ]
  }
}

resource unhealthy 'Microsoft.Insights/metricAlerts@2018-03-01' = if (alerts) {
  name: 'alert-unhealthy-${token}'
  location: 'global'
  tags: tags
  properties: {
    description: 'Gateway: the probe of the Application Gateway fails'
    severity: 1
    enabled: true
    scopes: [gateway.id]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT5M'
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          name: 'unhealthy'
          criterionType: 'StaticThresholdCriterion'
          metricName: 'UnhealthyHostCount'
          metricNamespace: 'Microsoft.Network/applicationGateways'
          operator: 'GreaterThan'
          threshold: 0
          timeAggregation: 'Average'
        }
      ]
    }
    actions: [{ actionGroupId: actionGroupId }]
  }
}

output hostName string = address.properties.dnsSettings.fqdn
