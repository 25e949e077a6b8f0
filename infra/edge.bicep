// The private variant's only way in: a public address, a certificate, a firewall, an Application Gateway.
param location string
param tags object
param token string
param subnetId string
param siteHostName string
param functionPrivateEndpoint bool
param vaultName string
param dnsLabel string
param tlsSecretId string

@secure()
param tlsPfx string
param wafMode string
param minCapacity int
param maxCapacity int
param workspaceId string

var gatewayName = 'agw-${token}'
var gatewayId = resourceId('Microsoft.Network/applicationGateways', gatewayName)
var keyVaultSecretsUser = '4633458b-17de-408a-b874-0445c86b69e6'
var secretName = 'gateway-certificate'

// Prompts are full of SQL, HTML and shell, and these groups would refuse them. Names, headers, addresses
// and the form of requests stay inspected.
var contentGroups = [
  'SQLI'
  'MS-ThreatIntel-SQLI'
  'PROTOCOL-ATTACK'
  'XSS'
  'RCE'
  'LFI'
  'RFI'
  'PHP'
  'MS-ThreatIntel-AppSec'
  'MS-ThreatIntel-WebShells'
  'MS-ThreatIntel-CVEs'
]

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: 'id-edge-${token}'
  location: location
  tags: tags
}

resource vault 'Microsoft.KeyVault/vaults@2025-05-01' existing = {
  name: vaultName
}

resource certificate 'Microsoft.KeyVault/vaults/secrets@2025-05-01' = if (empty(tlsSecretId)) {
  // checkov:skip=CKV_AZURE_41:the certificate has its own end
  // checkov:skip=CKV_AZURE_114:it has: application/x-pkcs12
  parent: vault
  name: secretName
  properties: { value: tlsPfx, contentType: 'application/x-pkcs12' }
}

resource mayCertificate 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: vault
  name: guid(vault.id, identity.id, keyVaultSecretsUser)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', keyVaultSecretsUser)
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
  }
}

resource address 'Microsoft.Network/publicIPAddresses@2025-05-01' = {
  name: 'pip-${token}'
  location: location
  tags: tags
  sku: { name: 'Standard' }
  zones: pickZones('Microsoft.Network', 'publicIPAddresses', location, 3)
  properties: {
    publicIPAllocationMethod: 'Static'
    dnsSettings: { domainNameLabel: dnsLabel }
  }
}

resource firewall 'Microsoft.Network/ApplicationGatewayWebApplicationFirewallPolicies@2025-05-01' = {
  // checkov:skip=CKV_AZURE_135:rule set 2.1 has the rule, 944240, in group JAVA, which is not excluded; the check knows rule set 3.1 only
  name: 'waf-${token}'
  location: location
  tags: tags
  properties: {
    policySettings: {
      state: 'Enabled'
      mode: wafMode
      requestBodyCheck: true
      requestBodyInspectLimitInKB: 128
      // Long contexts and images pass any size the firewall can enforce; the gateway has a limit of its own.
      requestBodyEnforcement: false
      maxRequestBodySizeInKb: 2000
      fileUploadEnforcement: true
      fileUploadLimitInMb: 100
      logScrubbing: {
        state: 'Enabled'
        scrubbingRules: [
          // Without it the firewall's log would hold the piece of a prompt that a rule met.
          { matchVariable: 'RequestJSONArgNames', selectorMatchOperator: 'EqualsAny', selector: '*', state: 'Enabled' }
        ]
      }
    }
    managedRules: {
      managedRuleSets: [
        { ruleSetType: 'Microsoft_DefaultRuleSet', ruleSetVersion: '2.1' }
      ]
      exclusions: [
        {
          matchVariable: 'RequestArgValues'
          selectorMatchOperator: 'EqualsAny'
          selector: '*'
          exclusionManagedRuleSets: [
            {
              ruleSetType: 'Microsoft_DefaultRuleSet'
              ruleSetVersion: '2.1'
              ruleGroups: [for g in contentGroups: { ruleGroupName: g }]
            }
          ]
        }
      ]
    }
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
  dependsOn: [mayCertificate, certificate]
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
      { name: 'http', properties: { port: 80 } }
    ]
    sslCertificates: [
      {
        // Without a version, so that a new one is picked up, within four hours.
        name: 'certificate'
        properties: { keyVaultSecretId: empty(tlsSecretId) ? '${vault.properties.vaultUri}secrets/${secretName}' : tlsSecretId }
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
          connectionDraining: { enabled: true, drainTimeoutInSec: 60 }
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
      {
        name: 'http'
        properties: {
          frontendIPConfiguration: { id: '${gatewayId}/frontendIPConfigurations/public' }
          frontendPort: { id: '${gatewayId}/frontendPorts/http' }
          protocol: 'Http'
        }
      }
    ]
    redirectConfigurations: [
      {
        name: 'to-https'
        properties: {
          redirectType: 'Permanent'
          targetListener: { id: '${gatewayId}/httpListeners/https' }
          includePath: true
          includeQueryString: true
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
                { variable: 'var_uri_path', pattern: '^/+(openai/.*)', ignoreCase: true, negate: false }
              ]
              actionSet: {
                urlConfiguration: { modifiedPath: '/{var_uri_path_1}', reroute: false }
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
          ruleType: 'Basic'
          priority: 100
          httpListener: { id: '${gatewayId}/httpListeners/https' }
          backendAddressPool: { id: '${gatewayId}/backendAddressPools/app' }
          backendHttpSettings: { id: '${gatewayId}/backendHttpSettingsCollection/app' }
          rewriteRuleSet: { id: '${gatewayId}/rewriteRuleSets/requests' }
        }
      }
      {
        name: 'http'
        properties: {
          ruleType: 'Basic'
          priority: 200
          httpListener: { id: '${gatewayId}/httpListeners/http' }
          redirectConfiguration: { id: '${gatewayId}/redirectConfigurations/to-https' }
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
    logs: [
      { category: 'ApplicationGatewayAccessLog', enabled: true }
      { category: 'ApplicationGatewayFirewallLog', enabled: true }
    ]
  }
}

output hostName string = address.properties.dnsSettings.fqdn
