// The gateway itself: its identity, its storage and vault, the Functions app, and every right that the identity has.
param location string
param tags object
param token string
param private bool
param storageSku string
param auditRetentionDays int
param purgeProtection bool
param instanceMemoryMB int
param maximumInstanceCount int
param httpConcurrency int
param alwaysReady int

@description('JSON of the regions, as GATEWAY_BACKENDS wants it.')
param backends string
param accountNames array

@secure()
param adminKey string
param operatorId string
param operatorType string
param entraTenantId string
param entraAudience string
param entraProduct string
param workspaceName string
param componentName string
param ruleName string
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

var packageContainer = 'app-package'
var auditContainer = 'audit'
var tableNames = ['subscriptions', 'quota', 'affinity', 'regions', 'journal', 'usage']

var roles = {
  storageBlobDataOwner: 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
  storageBlobDataReader: '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1'
  storageTableDataContributor: '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
  keyVaultSecretsUser: '4633458b-17de-408a-b874-0445c86b69e6'
  keyVaultSecretsOfficer: 'b86a8fe4-44ce-4948-aee5-eccb2c155cd7'
  cognitiveServicesOpenAIUser: '5e0bd9bd-7b93-4f28-af87-19fc36ad61bd'
  monitoringMetricsPublisher: '3913510d-42f4-4e42-8a64-420c390055eb'
  logAnalyticsReader: '73c42c96-874c-492b-b04d-ab87d138a893'
}

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: 'id-gw-${token}'
  location: location
  tags: tags
}

resource storage 'Microsoft.Storage/storageAccounts@2025-06-01' = {
  // checkov:skip=CKV_AZURE_35:Deny in private; public has no network to allow, and takes Entra identities only
  // checkov:skip=CKV_AZURE_206:a parameter; the default is the cheapest
  // checkov:skip=CKV_AZURE_43:made of a hash that is within the rules
  name: 'st${token}'
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: storageSku }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: private ? 'Disabled' : 'Enabled'
    networkAcls: { defaultAction: private ? 'Deny' : 'Allow', bypass: 'None' }
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2025-06-01' = {
  parent: storage
  name: 'default'
  properties: {
    deleteRetentionPolicy: { enabled: true, days: 7 }
    containerDeleteRetentionPolicy: { enabled: true, days: 7 }
  }
}

resource package 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-06-01' = {
  parent: blobs
  name: packageContainer
  properties: { publicAccess: 'None' }
}

resource audit 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-06-01' = {
  parent: blobs
  name: auditContainer
  properties: { publicAccess: 'None' }
}

// Append blobs can be deleted by age, but not moved to a cooler tier.
resource lifecycle 'Microsoft.Storage/storageAccounts/managementPolicies@2025-06-01' = {
  parent: storage
  name: 'default'
  dependsOn: [blobs]
  properties: {
    policy: {
      rules: [
        {
          name: 'old-records'
          type: 'Lifecycle'
          enabled: true
          definition: {
            filters: { prefixMatch: ['${auditContainer}/'], blobTypes: ['appendBlob', 'blockBlob'] }
            actions: {
              baseBlob: { delete: { daysAfterModificationGreaterThan: auditRetentionDays } }
            }
          }
        }
      ]
    }
  }
}

resource tableService 'Microsoft.Storage/storageAccounts/tableServices@2025-06-01' = {
  parent: storage
  name: 'default'
}

resource tables 'Microsoft.Storage/storageAccounts/tableServices/tables@2025-06-01' = [for name in tableNames: {
  parent: tableService
  name: name
}]

resource vault 'Microsoft.KeyVault/vaults@2025-05-01' = {
  // checkov:skip=CKV_AZURE_109:Deny in private; public takes Entra identities only
  // checkov:skip=CKV_AZURE_189:Disabled in private
  // checkov:skip=CKV_AZURE_110:a parameter: a trial could not be made again under its name
  // checkov:skip=CKV_AZURE_42:soft delete is on; purge protection is a parameter
  name: 'kv-${token}'
  location: location
  tags: tags
  properties: {
    tenantId: tenant().tenantId
    sku: { family: 'A', name: 'standard' }
    enableRbacAuthorization: true
    enableSoftDelete: true
    softDeleteRetentionInDays: 7
    enablePurgeProtection: purgeProtection ? true : null
    enabledForTemplateDeployment: true
    publicNetworkAccess: private ? 'Disabled' : 'Enabled'
    // Trusted services stay: the Application Gateway reads its certificate as one.
    networkAcls: { defaultAction: private ? 'Deny' : 'Allow', bypass: 'AzureServices' }
  }
}

// Through Resource Manager, which a closed vault admits.
resource adminSecret 'Microsoft.KeyVault/vaults/secrets@2025-05-01' = {
  // checkov:skip=CKV_AZURE_41:an expired admin key would lock operators out; README says how to rotate it
  parent: vault
  name: 'gateway-admin-key'
  properties: { value: adminKey, contentType: 'text/plain' }
}

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-07-01' existing = {
  name: workspaceName
}

resource component 'Microsoft.Insights/components@2020-02-02' existing = {
  name: componentName
}

resource rule 'Microsoft.Insights/dataCollectionRules@2024-03-11' existing = {
  name: ruleName
}

resource accounts 'Microsoft.CognitiveServices/accounts@2025-12-01' existing = [for name in accountNames: {
  name: name
}]

resource vaultLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: vault
  name: 'gateway'
  properties: {
    workspaceId: workspace.id
    logs: [
      { categoryGroup: 'audit', enabled: true }
    ]
  }
}

// Owner of blobs, not of the account: the Functions host sets permissions on its own locks and keys.
resource mayBlobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: storage
  name: guid(storage.id, identity.id, roles.storageBlobDataOwner)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.storageBlobDataOwner)
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
  }
}

resource mayTables 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: storage
  name: guid(storage.id, identity.id, roles.storageTableDataContributor)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.storageTableDataContributor)
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
  }
}

resource maySecrets 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: vault
  name: guid(vault.id, identity.id, roles.keyVaultSecretsUser)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.keyVaultSecretsUser)
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
  }
}

resource mayModels 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for (name, i) in accountNames: {
  scope: accounts[i]
  name: guid(accounts[i].id, identity.id, roles.cognitiveServicesOpenAIUser)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.cognitiveServicesOpenAIUser)
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
  }
}]

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

resource operatorBlobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(operatorId)) {
  scope: storage
  name: guid(storage.id, operatorId, roles.storageBlobDataReader)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.storageBlobDataReader)
    principalId: operatorId
    principalType: operatorType
  }
}

resource operatorTables 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(operatorId)) {
  scope: storage
  name: guid(storage.id, operatorId, roles.storageTableDataContributor)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.storageTableDataContributor)
    principalId: operatorId
    principalType: operatorType
  }
}

resource operatorSecrets 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(operatorId)) {
  scope: vault
  name: guid(vault.id, operatorId, roles.keyVaultSecretsOfficer)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.keyVaultSecretsOfficer)
    principalId: operatorId
    principalType: operatorType
  }
}

resource operatorLogs 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(operatorId)) {
  scope: workspace
  name: guid(workspace.id, operatorId, roles.logAnalyticsReader)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.logAnalyticsReader)
    principalId: operatorId
    principalType: operatorType
  }
}

// One link after the other, and all before the site: its first deployment needs the storage that stands behind them.
module blobLink 'link.bicep' = if (private) {
  name: 'link-blob'
  params: {
    name: 'pe-blob-${token}'
    location: location
    tags: tags
    subnetId: linksSubnetId
    serviceId: storage.id
    groupId: 'blob'
    zoneIds: private ? [zones.blob] : []
  }
}

module tableLink 'link.bicep' = if (private) {
  name: 'link-table'
  dependsOn: [blobLink]
  params: {
    name: 'pe-table-${token}'
    location: location
    tags: tags
    subnetId: linksSubnetId
    serviceId: storage.id
    groupId: 'table'
    zoneIds: private ? [zones.table] : []
  }
}

module vaultLink 'link.bicep' = if (private) {
  name: 'link-vault'
  dependsOn: [tableLink]
  params: {
    name: 'pe-vault-${token}'
    location: location
    tags: tags
    subnetId: linksSubnetId
    serviceId: vault.id
    groupId: 'vault'
    zoneIds: private ? [zones.vault] : []
  }
}

resource plan 'Microsoft.Web/serverfarms@2025-03-01' = {
  // checkov:skip=CKV_AZURE_225:instances exist only while requests do
  name: 'plan-${token}'
  location: location
  tags: tags
  kind: 'functionapp'
  sku: { name: 'FC1', tier: 'FlexConsumption' }
  properties: { reserved: true }
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
    userAssignedIdentities: { '${identity.id}': {} }
  }
  dependsOn: [package, tables, mayBlobs, mayTables, maySecrets, vaultLink]
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
          value: '${storage.properties.primaryEndpoints.blob}${packageContainer}'
          authentication: { type: 'UserAssignedIdentity', userAssignedIdentityResourceId: identity.id }
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
      ipSecurityRestrictionsDefaultAction: private ? 'Deny' : 'Allow'
      ipSecurityRestrictions: private && !functionPrivateEndpoint ? [
        { name: 'edge', priority: 100, action: 'Allow', vnetSubnetResourceId: edgeSubnetId }
      ] : []
      scmIpSecurityRestrictionsUseMain: false
      scmIpSecurityRestrictionsDefaultAction: private && scmAccess == 'private' ? 'Deny' : 'Allow'
    }
  }
}

var appSettings = {
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsStorage__clientId: identity.properties.clientId
  AzureWebJobsStorage__blobServiceUri: storage.properties.primaryEndpoints.blob
  AzureWebJobsStorage__tableServiceUri: storage.properties.primaryEndpoints.table
  APPLICATIONINSIGHTS_CONNECTION_STRING: component.properties.ConnectionString
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identity.properties.clientId};Authorization=AAD'
  AZURE_CLIENT_ID: identity.properties.clientId
  AZURE_TOKEN_CREDENTIALS: 'prod'
  GATEWAY_BACKENDS: backends
  GATEWAY_TABLE_ENDPOINT: storage.properties.primaryEndpoints.table
  GATEWAY_BLOB_ENDPOINT: storage.properties.primaryEndpoints.blob
  GATEWAY_KEY_VAULT_URI: vault.properties.vaultUri
  GATEWAY_ADMIN_KEY_SECRET: adminSecret.name
  GATEWAY_ENTRA_TENANT: entraTenantId
  GATEWAY_ENTRA_AUDIENCE: entraAudience
  GATEWAY_ENTRA_PRODUCT: entraProduct
  GATEWAY_FRONTED: private ? 'true' : 'false'
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
    zoneIds: private ? [zones.sites] : []
  }
}

output identityClientId string = identity.properties.clientId
output siteName string = site.name
output siteHostName string = site.properties.defaultHostName
output vaultName string = vault.name
output vaultUri string = vault.properties.vaultUri
output tableEndpoint string = storage.properties.primaryEndpoints.table
output blobEndpoint string = storage.properties.primaryEndpoints.blob
