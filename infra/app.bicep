// The Functions app: plan, site, settings, and the rights of the program's identity on models and logs.
param location string
param tags object

@minLength(13)
param token string
param private bool

@description('Whether the app accepts requests from the edge only: in private, but for the step from public to it.')
param closed bool
param instanceMemoryMB int
param maximumInstanceCount int
param httpConcurrency int
param hostBodyBytes int
param maxBodyMB int
param alwaysReady int
param zoneRedundant bool

@description('JSON of the regions, as GATEWAY_BACKENDS wants it.')
param backends string
param regionNames array
param operatorId string
param operatorType string
param auditorId string
param auditorType string
param entraTenantId string
param entraAudience string
param entraProduct string

@description('Endpoints of store.bicep.')
param store object
param logsEndpoint string
param logsRule string
param logsStream string
param edgeSubnetId string
param appSubnetId string
param linksSubnetId string

@description('Ids of the private DNS zones by the service they belong to.')
param zones object
param functionPrivateEndpoint bool
param scmAccess string

@description('Whether the workspace is the gateway\'s own. Rights on another one are its owner\'s to give.')
param ownWorkspace bool

var roles = {
  cognitiveServicesOpenAIUser: '5e0bd9bd-7b93-4f28-af87-19fc36ad61bd'
  monitoringMetricsPublisher: '3913510d-42f4-4e42-8a64-420c390055eb'
  logAnalyticsReader: '73c42c96-874c-492b-b04d-ab87d138a893'
}

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = {
  name: 'id-gw-${token}'
}

resource deployer 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = {
  name: 'id-deploy-${token}'
}

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-07-01' existing = {
  name: 'log-${token}'
}

resource component 'Microsoft.Insights/components@2020-02-02' existing = {
  name: 'appi-${token}'
}

resource rule 'Microsoft.Insights/dataCollectionRules@2024-03-11' existing = {
  name: 'dcr-${token}'
}

resource accounts 'Microsoft.CognitiveServices/accounts@2025-12-01' existing = [
  for region in regionNames: {
    name: 'ai-${region}-${token}'
  }
]

resource mayModels 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (region, i) in regionNames: {
    scope: accounts[i]
    name: guid(accounts[i].id, identity.id, roles.cognitiveServicesOpenAIUser)
    properties: {
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.cognitiveServicesOpenAIUser)
      principalId: identity.properties.principalId
      principalType: 'ServicePrincipal'
    }
  }
]

resource mayRows 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: rule
  name: guid(rule.id, identity.id, roles.monitoringMetricsPublisher)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.monitoringMetricsPublisher)
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
  }
}

resource mayTraces 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: component
  name: guid(component.id, identity.id, roles.monitoringMetricsPublisher)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.monitoringMetricsPublisher)
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
  }
}

resource operatorLogs 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(operatorId) && ownWorkspace) {
  scope: workspace
  name: guid(workspace.id, operatorId, roles.logAnalyticsReader)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.logAnalyticsReader)
    principalId: operatorId
    principalType: operatorType
  }
}

resource auditorLogs 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(auditorId) && auditorId != operatorId && ownWorkspace) {
  scope: workspace
  name: guid(workspace.id, auditorId, roles.logAnalyticsReader)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.logAnalyticsReader)
    principalId: auditorId
    principalType: auditorType
  }
}

resource plan 'Microsoft.Web/serverfarms@2025-03-01' = {
  // checkov:skip=CKV_AZURE_225:instances exist only while requests do
  name: 'plan-${token}'
  location: location
  tags: tags
  kind: 'functionapp'
  sku: { name: 'FC1', tier: 'FlexConsumption' }
  properties: { reserved: true, zoneRedundant: zoneRedundant }
}

resource site 'Microsoft.Web/sites@2025-03-01' = {
  // checkov:skip=CKV_AZURE_222:open for deployments; the app itself is Deny by default in private
  // checkov:skip=CKV_AZURE_17:callers have keys, not certificates
  // checkov:skip=CKV_AZURE_212:scale to zero is the point; alwaysReady is a parameter
  // checkov:skip=CKV_AZURE_213:Flex Consumption has none; the Application Gateway probes /healthz
  name: 'func-${token}'
  location: location
  tags: union(tags, { 'azd-service-name': 'gateway' })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identity.id}': {}, '${deployer.id}': {} }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    clientAffinityEnabled: false
    virtualNetworkSubnetId: private ? appSubnetId : null
    // Enabled in both variants: azd uploads through the app's own deployment site. In private the
    // default of the app itself is Deny.
    publicNetworkAccess: 'Enabled'
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: store.package
          authentication: { type: 'UserAssignedIdentity', userAssignedIdentityResourceId: deployer.id }
        }
      }
      runtime: { name: 'custom', version: '1.0' }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstanceCount
        alwaysReady: alwaysReady == 0 ? [] : [
          { name: 'http', instanceCount: alwaysReady }
        ]
        triggers: {
          http: { perInstanceConcurrency: httpConcurrency }
        }
      }
    }
    siteConfig: {
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      http20Enabled: true
      ftpsState: 'Disabled'
      ipSecurityRestrictionsDefaultAction: closed ? 'Deny' : 'Allow'
      ipSecurityRestrictions: private && !functionPrivateEndpoint ? [
        { name: 'edge', priority: 100, action: 'Allow', vnetSubnetResourceId: edgeSubnetId }
      ] : []
      scmIpSecurityRestrictionsUseMain: false
      scmIpSecurityRestrictionsDefaultAction: closed && scmAccess == 'private' ? 'Deny' : 'Allow'
    }
  }
}

var appSettings = {
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsStorage__clientId: identity.properties.clientId
  // Without the account's name the host can fail to reach its storage early in its start.
  AzureWebJobsStorage__accountName: store.hostAccount
  AzureWebJobsStorage__blobServiceUri: store.hostBlob
  AzureWebJobsStorage__tableServiceUri: store.table
  AzureWebJobsDisableHomepage: 'true'
  APPLICATIONINSIGHTS_CONNECTION_STRING: component.properties.ConnectionString
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identity.properties.clientId};Authorization=AAD'
  AZURE_CLIENT_ID: identity.properties.clientId
  AZURE_TOKEN_CREDENTIALS: 'prod'
  FUNCTIONS_REQUEST_BODY_SIZE_LIMIT: string(hostBodyBytes)
  GATEWAY_MAX_BODY_MB: string(maxBodyMB)
  GATEWAY_BACKENDS: backends
  GATEWAY_TABLE_ENDPOINT: store.table
  GATEWAY_BLOB_ENDPOINT: store.blob
  GATEWAY_KEY_VAULT_URI: store.vault
  GATEWAY_ADMIN_KEY_SECRET: 'gateway-admin-key'
  GATEWAY_ENTRA_TENANT: entraTenantId
  GATEWAY_ENTRA_AUDIENCE: entraAudience
  GATEWAY_ENTRA_PRODUCT: entraProduct
  // Only where nobody but the edge reaches the app: it believes the client address that the edge sends.
  GATEWAY_FRONTED: closed ? 'true' : 'false'
  GATEWAY_LOGS_ENDPOINT: logsEndpoint
  GATEWAY_LOGS_RULE: logsRule
  GATEWAY_LOGS_STREAM: logsStream
}

resource settings 'Microsoft.Web/sites/config@2025-03-01' = {
  // checkov:skip=CKV_AZURE_66:these are app settings, not the site's configuration that the check takes them for
  // checkov:skip=CKV_AZURE_63:these are app settings, not the site's configuration that the check takes them for
  // checkov:skip=CKV_AZURE_222:these are app settings, not the site's configuration that the check takes them for
  // checkov:skip=CKV_AZURE_80:these are app settings, not the site's configuration that the check takes them for
  // checkov:skip=CKV_AZURE_13:these are app settings, not the site's configuration that the check takes them for
  // checkov:skip=CKV_AZURE_88:these are app settings, not the site's configuration that the check takes them for
  // checkov:skip=CKV_AZURE_65:these are app settings, not the site's configuration that the check takes them for
  parent: site
  name: 'appsettings'
  properties: appSettings
}

resource noScmPassword 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2025-03-01' = {
  parent: site
  name: 'scm'
  properties: { allow: false }
}

resource noFtpPassword 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2025-03-01' = {
  parent: site
  name: 'ftp'
  dependsOn: [noScmPassword]
  properties: { allow: false }
}

module siteLink 'link.bicep' = if (private && functionPrivateEndpoint) {
  name: 'link-site'
  dependsOn: [settings]
  params: {
    name: 'pe-site-${token}'
    location: location
    tags: tags
    subnetId: linksSubnetId
    serviceId: site.id
    groupId: 'sites'
    zoneIds: [zones.sites]
  }
}

output siteName string = site.name
output siteHostName string = site.properties.defaultHostName
