// One region: an AI account without keys, and the same model deployments as in every other region.
param location string

@description('Region of the network, where the private endpoint stands; the account may be anywhere.')
param linkLocation string
param tags object

@description('Also its subdomain, without which there is neither Entra nor private link.')
param name string
param kind string
param private bool

@description('Whether the public endpoint is closed: in private, but for the step from public to it.')
param closed bool

@description('Entries of models.json for this region.')
param deployments array
param diagnostics bool
param workspaceId string
param linksSubnetId string

@description('Ids of the private DNS zones by the service they belong to.')
param zones object

resource account 'Microsoft.CognitiveServices/accounts@2025-12-01' = {
  // checkov:skip=CKV_AZURE_134:Disabled in private; public takes Entra identities only
  name: name
  location: location
  tags: tags
  kind: kind
  sku: { name: 'S0' }
  identity: { type: 'SystemAssigned' }
  properties: {
    customSubDomainName: name
    disableLocalAuth: true
    publicNetworkAccess: closed ? 'Disabled' : 'Enabled'
    networkAcls: { defaultAction: closed ? 'Deny' : 'Allow', bypass: 'None' }
  }
}

// One at a time: the account takes one change, and refuses a second with 409.
@batchSize(1)
resource deployment 'Microsoft.CognitiveServices/accounts/deployments@2025-12-01' = [
  for d in deployments: {
    parent: account
    name: d.name
    sku: { name: d.sku, capacity: d.capacity }
    properties: {
      model: { format: 'OpenAI', name: d.model, version: empty(d.version) ? null : d.version }
      versionUpgradeOption: 'OnceCurrentVersionExpired'
      raiPolicyName: 'Microsoft.DefaultV2'
    }
  }
]

resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (diagnostics) {
  scope: account
  name: 'gateway'
  properties: {
    workspaceId: workspaceId
    logs: [
      { category: 'Audit', enabled: true }
      { category: 'RequestResponse', enabled: true }
      { category: 'AzureOpenAIRequestUsage', enabled: true }
    ]
    metrics: [
      { category: 'AllMetrics', enabled: true }
    ]
  }
}

// After the deployments: an endpoint made while the account still changes fails with AccountProvisioningStateInvalid.
module link 'link.bicep' = if (private) {
  name: 'link-${name}'
  dependsOn: [deployment]
  params: {
    name: 'pe-${name}'
    location: linkLocation
    tags: tags
    subnetId: linksSubnetId
    serviceId: account.id
    groupId: 'account'
    zoneIds: [zones.openai, zones.cognitiveservices, zones.aiservices]
  }
}
