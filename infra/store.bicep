// What the gateway keeps and who may do what with it: identities, storage, vault, secrets, and the rights on them.
// It stands minutes before the app and the Application Gateway, so that Azure knows the roles when they are used.
param location string
param tags object

@minLength(13)
param token string
param private bool

@description('Whether public endpoints are closed: in private, but for the step from public to it.')
param closed bool
param storageSku string
param auditRetentionDays int
param auditImmutableDays int
param purgeProtection bool

@secure()
param adminKey string
param tlsSecretUri string

@secure()
param tlsPfx string

@description('When the certificate of tlsPfx ends, in seconds since 1970; 0 is not known.')
param tlsEnd int

@description('Whether the vault has these very secrets: each writing makes another version of them.')
param secretsUnchanged bool
param operatorId string
param operatorType string
param auditorId string
param auditorType string
param workspaceId string

param alerts bool

@description('Where alerts go, where there are any.')
param actionGroupId string
param linksSubnetId string

@description('Ids of the private DNS zones by the service they belong to.')
param zones object

var packageContainer = 'app-package'
var auditContainer = 'audit'
var tableNames = ['subscriptions', 'quota', 'affinity', 'regions', 'journal', 'usage']
var certificateName = 'gateway-certificate'

var roles = {
  storageBlobDataOwner: 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
  storageBlobDataContributor: 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
  storageBlobDataReader: '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1'
  storageTableDataContributor: '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
  storageTableDataReader: '76199698-9eea-4c19-bc75-cec21354c6b6'
  keyVaultSecretsUser: '4633458b-17de-408a-b874-0445c86b69e6'
  keyVaultSecretsOfficer: 'b86a8fe4-44ce-4948-aee5-eccb2c155cd7'
}

// Of the program.
resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: 'id-gw-${token}'
  location: location
  tags: tags
}

// Of deployments: it writes the package, which the program's identity cannot.
resource deployer 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: 'id-deploy-${token}'
  location: location
  tags: tags
}

// Of the Application Gateway.
resource edgeIdentity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = if (private) {
  name: 'id-edge-${token}'
  location: location
  tags: tags
}

// The records, the tables and the package.
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
    publicNetworkAccess: closed ? 'Disabled' : 'Enabled'
    isHnsEnabled: false
    // Lifecycle management, which deletes old records, comes as a trusted service.
    networkAcls: { defaultAction: closed ? 'Deny' : 'Allow', bypass: 'AzureServices' }
  }
}

// The Functions host's own: locks, keys, timers. The host wants to own the account, and so cannot share that of the records.
resource hostStorage 'Microsoft.Storage/storageAccounts@2025-06-01' = {
  // checkov:skip=CKV_AZURE_35:Deny in private; public has no network to allow, and takes Entra identities only
  // checkov:skip=CKV_AZURE_206:a parameter; the default is the cheapest
  // checkov:skip=CKV_AZURE_43:made of a hash that is within the rules
  name: 'sh${token}'
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
    publicNetworkAccess: closed ? 'Disabled' : 'Enabled'
    networkAcls: { defaultAction: closed ? 'Deny' : 'Allow', bypass: 'None' }
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

// Not locked: whoever may write the account's settings can still remove it, and everybody sees that in the activity log.
resource immutable 'Microsoft.Storage/storageAccounts/blobServices/containers/immutabilityPolicies@2025-06-01' = if (auditImmutableDays > 0) {
  parent: audit
  name: 'default'
  properties: { immutabilityPeriodSinceCreationInDays: auditImmutableDays, allowProtectedAppendWritesAll: true }
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

resource tables 'Microsoft.Storage/storageAccounts/tableServices/tables@2025-06-01' = [
  for name in tableNames: {
    parent: tableService
    name: name
  }
]

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
    publicNetworkAccess: closed ? 'Disabled' : 'Enabled'
    // Trusted services stay: the Application Gateway reads its certificate as one.
    networkAcls: { defaultAction: closed ? 'Deny' : 'Allow', bypass: 'AzureServices' }
  }
}

// Through Resource Manager, which a closed vault admits. A machine that does not know the key leaves the vault's as it is.
resource adminSecret 'Microsoft.KeyVault/vaults/secrets@2025-05-01' = if (!empty(adminKey) && !secretsUnchanged) {
  // checkov:skip=CKV_AZURE_41:an expired admin key would lock operators out; README says how to rotate it
  // checkov:skip=CKV_AZURE_114:it has: text/plain
  parent: vault
  name: 'gateway-admin-key'
  properties: { value: adminKey, contentType: 'text/plain' }
}

resource certificate 'Microsoft.KeyVault/vaults/secrets@2025-05-01' = if (private && !empty(tlsPfx) && !secretsUnchanged) {
  // checkov:skip=CKV_AZURE_41:it has, where the end is known
  // checkov:skip=CKV_AZURE_114:it has: application/x-pkcs12
  parent: vault
  name: certificateName
  // Events come only for versions that are younger than the subscription to them.
  dependsOn: [certificateEnds]
  properties: {
    value: tlsPfx
    contentType: 'application/x-pkcs12'
    attributes: tlsEnd > 0 ? { exp: tlsEnd } : {}
  }
}

// The vault knows the end of a secret only where it is told, and says so 30 days before.
resource vaultEvents 'Microsoft.EventGrid/systemTopics@2025-02-15' = if (private && alerts) {
  name: 'evgt-${token}'
  location: location
  tags: tags
  properties: {
    source: vault.id
    topicType: 'Microsoft.KeyVault.vaults'
  }
}

resource certificateEnds 'Microsoft.EventGrid/systemTopics/eventSubscriptions@2025-02-15' = if (private && alerts) {
  parent: vaultEvents
  name: 'certificate-ends'
  properties: {
    // Alerts of Azure Monitor take no other schema.
    eventDeliverySchema: 'CloudEventSchemaV1_0'
    filter: {
      includedEventTypes: ['Microsoft.KeyVault.SecretNearExpiry', 'Microsoft.KeyVault.SecretExpired']
    }
    destination: {
      endpointType: 'MonitorAlert'
      properties: {
        severity: 'Sev1'
        description: 'Gateway: the certificate of the Application Gateway ends within 30 days, or has ended'
        actionGroups: [actionGroupId]
      }
    }
  }
}

resource keptCertificate 'Microsoft.KeyVault/vaults/secrets@2025-05-01' existing = {
  parent: vault
  name: certificateName
}

resource vaultLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: vault
  name: 'gateway'
  properties: {
    workspaceId: workspaceId
    logAnalyticsDestinationType: 'Dedicated'
    logs: [
      { categoryGroup: 'audit', enabled: true }
    ]
  }
}

// Who read or deleted a record. The gateway's own appends would be a row each, and are left out.
resource recordLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: blobs
  name: 'gateway'
  properties: {
    workspaceId: workspaceId
    logAnalyticsDestinationType: 'Dedicated'
    logs: [
      { category: 'StorageRead', enabled: true }
      { category: 'StorageDelete', enabled: true }
    ]
  }
}

// No built-in role can write records and not delete them.
resource appendRole 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(resourceGroup().id, 'append')
  properties: {
    roleName: 'Gateway audit append ${token}'
    description: 'Reads and writes blobs, and deletes none.'
    type: 'CustomRole'
    assignableScopes: [resourceGroup().id]
    permissions: [
      {
        actions: []
        dataActions: [
          'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read'
          'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write'
          'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/add/action'
        ]
      }
    ]
  }
}

resource mayAppend 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: audit
  name: guid(audit.id, identity.id, appendRole.id)
  properties: {
    roleDefinitionId: appendRole.id
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
  }
}

// Owner of the host's blobs, not of the account: the host sets permissions on its own locks and keys.
resource mayHost 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: hostStorage
  name: guid(hostStorage.id, identity.id, roles.storageBlobDataOwner)
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

resource mayPackage 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: package
  name: guid(package.id, deployer.id, roles.storageBlobDataContributor)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.storageBlobDataContributor)
    principalId: deployer.properties.principalId
    principalType: 'ServicePrincipal'
  }
}

// This one secret, not the vault with its admin key. An own certificate (tlsSecretUri) lies in another vault.
resource mayCertificate 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (private && empty(tlsSecretUri)) {
  scope: keptCertificate
  dependsOn: [certificate]
  name: guid(keptCertificate.id, edgeIdentity.id, roles.keyVaultSecretsUser)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.keyVaultSecretsUser)
    principalId: edgeIdentity!.properties.principalId
    principalType: 'ServicePrincipal'
  }
}

resource auditorBlobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(auditorId)) {
  scope: audit
  name: guid(audit.id, auditorId, roles.storageBlobDataReader)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.storageBlobDataReader)
    principalId: auditorId
    principalType: auditorType
  }
}

resource auditorTables 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(auditorId)) {
  scope: storage
  name: guid(storage.id, auditorId, roles.storageTableDataReader)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.storageTableDataReader)
    principalId: auditorId
    principalType: auditorType
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
    zoneIds: [zones.blob]
  }
}

module hostLink 'link.bicep' = if (private) {
  name: 'link-host'
  dependsOn: [blobLink]
  params: {
    name: 'pe-host-${token}'
    location: location
    tags: tags
    subnetId: linksSubnetId
    serviceId: hostStorage.id
    groupId: 'blob'
    zoneIds: [zones.blob]
  }
}

module tableLink 'link.bicep' = if (private) {
  name: 'link-table'
  dependsOn: [hostLink]
  params: {
    name: 'pe-table-${token}'
    location: location
    tags: tags
    subnetId: linksSubnetId
    serviceId: storage.id
    groupId: 'table'
    zoneIds: [zones.table]
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
    zoneIds: [zones.vault]
  }
}

output principalId string = identity.properties.principalId
output certificateUri string = empty(tlsSecretUri) ? '${vault.properties.vaultUri}secrets/${certificateName}' : tlsSecretUri

@description('What the app needs to know of all this.')
output endpoints object = {
  identityClientId: identity.properties.clientId
  blob: storage.properties.primaryEndpoints.blob
  table: storage.properties.primaryEndpoints.table
  hostAccount: hostStorage.name
  hostBlob: hostStorage.properties.primaryEndpoints.blob
  package: '${storage.properties.primaryEndpoints.blob}${packageContainer}'
  vault: vault.properties.vaultUri
}
