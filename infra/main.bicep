// The whole gateway: one resource group, two variants. `public` costs nothing while nobody calls; `private`
// puts an Application Gateway with WAF in front and every service behind private endpoints.
// README, "Deploy", shows the graph of these modules; a test holds the two together.
targetScope = 'subscription'

@minLength(1)
@maxLength(40)
@description('Name of the azd environment; part of every resource name.')
param environmentName string

@minLength(1)
@description('Region of everything but the AI accounts. Must offer Flex Consumption.')
@allowed([
  'australiaeast'
  'brazilsouth'
  'canadacentral'
  'centralindia'
  'centralus'
  'eastasia'
  'eastus'
  'eastus2'
  'francecentral'
  'germanywestcentral'
  'italynorth'
  'japaneast'
  'koreacentral'
  'northcentralus'
  'northeurope'
  'norwayeast'
  'southafricanorth'
  'southcentralus'
  'southeastasia'
  'southindia'
  'spaincentral'
  'swedencentral'
  'switzerlandnorth'
  'uaenorth'
  'uksouth'
  'westeurope'
  'westus'
  'westus2'
  'westus3'
])
@metadata({ azd: { type: 'location' } })
param location string

@description('''
public: about $0 a month while nobody calls. Services have public endpoints, open to Entra identities only; the gateway answers on its own azurewebsites.net name.
private: about $380 a month while nobody calls. Adds an Application Gateway with WAF as the only way in, a virtual network, and private endpoints; nothing else is reachable from outside.
''')
@allowed([
  'public'
  'private'
])
param network string

@description('Regions with an AI account each, separated by commas. The gateway spreads over them and fails over between them.')
param aiRegions string = 'eastus2,swedencentral'

@description('Chat model to deploy in every AI region; clients use this name.')
param chatModel string = 'gpt-5-mini'

@description('Version of the chat model; empty is the region\'s default.')
param chatModelVersion string = ''

@minValue(1)
@description('Capacity of the chat deployment in each region, in thousands of tokens a minute.')
param chatCapacity int = 10

@description('Embedding model to deploy in every AI region; empty deploys none.')
param embeddingModel string = 'text-embedding-3-small'

@minValue(1)
@description('Capacity of the embedding deployment in each region, in thousands of tokens a minute.')
param embeddingCapacity int = 10

@allowed([
  'AIServices'
  'OpenAI'
])
@description('Kind of the AI accounts.')
param accountKind string = 'AIServices'

@description('Whether the AI accounts log too. Their rows repeat the gateway\'s own.')
param aiDiagnostics bool = false

@allowed([
  512
  2048
  4096
])
@description('Memory of one instance of the gateway, MB. Flex Consumption bills memory times active time.')
param instanceMemoryMB int = 2048

@minValue(40)
@maxValue(1000)
@description('Most instances at a time: the ceiling of what a flood of requests can cost.')
param maximumInstanceCount int = 40

@minValue(1)
@maxValue(1000)
@description('Requests that one instance serves at a time before another is started.')
param httpConcurrency int = 100

@minValue(0)
@description('Instances kept warm and paid for at all times.')
param alwaysReady int = 0

@allowed([
  'Standard_LRS'
  'Standard_ZRS'
  'Standard_GRS'
  'Standard_GZRS'
])
@description('Redundancy of the storage account, which holds the records. Standard_ZRS or better for production.')
param storageSku string = 'Standard_LRS'

@minValue(1)
@description('Days after which records are deleted from the archive.')
param auditRetentionDays int = 365

@minValue(30)
@maxValue(730)
@description('Days that Log Analytics keeps the rows.')
param logRetentionDays int = 30

@description('Gigabytes a day after which Log Analytics takes no more rows; -1 is no cap. The archive is not affected.')
param dailyLogQuotaGb int = 1

@description('Name under which API Management\'s queries find the rows; empty makes no such function.')
param compatibilityAlias string = 'ApiManagementGatewayLogs'

@description('Where alerts go. Empty: no alert rules.')
param alertEmail string = ''

@minValue(0)
@description('Monthly budget in the subscription\'s currency, with mails at 80 and 100 percent to alertEmail. 0: none.')
param monthlyBudget int = 0

@description('First day of the current month; a budget begins on one.')
param budgetStart string = utcNow('yyyy-MM-01')

@description('Whether a deleted vault must stay for its seven days. Cannot be taken back.')
param purgeProtection bool = false

@description('private: address space, a /22 or larger.')
param addressPrefix string = '10.20.0.0/22'

@description('private: who may reach the Application Gateway: Internet, or a CIDR range.')
param allowedSources string = 'Internet'

@allowed([
  'Prevention'
  'Detection'
])
@description('private: Detection logs what Prevention blocks.')
param wafMode string = 'Prevention'

@minValue(0)
@description('private: least capacity units of the Application Gateway. 0 costs the fixed price only.')
param edgeMinCapacity int = 0

@minValue(1)
@maxValue(125)
@description('private: most capacity units of the Application Gateway.')
param edgeMaxCapacity int = 2

@description('private: first part of the public name <label>.<location>.cloudapp.azure.com.')
param dnsLabel string = ''

@description('private: versionless Key Vault secret URI of the certificate. Wins over tlsPfx.')
param tlsSecretId string = ''

@secure()
@description('private: certificate and key as a base64 PFX without a password.')
param tlsPfx string = ''

@description('private: the name clients use, when it is not the public IP\'s own.')
param gatewayHostName string = ''

@description('private: false lets the Application Gateway in by an access rule instead of a private endpoint. See README, "When it goes wrong".')
param functionPrivateEndpoint bool = true

@description('private: false when a hub brings its own Azure Monitor Private Link Scope.')
param monitorPrivateLink bool = true

@allowed([
  'public'
  'private'
])
@description('private: whether azd can deploy from anywhere with an Entra token, or from inside the network only.')
param scmAccess string = 'public'

@minLength(32)
@secure()
@description('Admin key of the gateway. The hook before provisioning makes one.')
param adminKey string

@description('Object id of a person or group that may read records and change secrets; empty is nobody.')
param operatorId string = ''

@allowed([
  'User'
  'Group'
  'ServicePrincipal'
])
param operatorType string = 'User'

@description('Entra tenant whose access tokens callers may send instead of a key, or beside one; empty takes none.')
param entraTenantId string = ''

@description('What tokens must be for: the client id of the gateway\'s registration in Entra.')
param entraAudience string = ''

@description('Product of callers with a token but neither a key nor an app role product.<name>; empty refuses them.')
param entraProduct string = ''

var isPrivate = network == 'private'
var token = toLower(uniqueString(subscription().id, environmentName, location))
var tags = { 'azd-env-name': environmentName }
var regions = map(filter(split(aiRegions, ','), r => !empty(trim(r))), r => toLower(trim(r)))
var chatDeployment = [
  { name: chatModel, version: chatModelVersion, capacity: chatCapacity }
]
var embeddingDeployment = empty(embeddingModel) ? [] : [
  { name: embeddingModel, version: '', capacity: embeddingCapacity }
]
var deployments = concat(chatDeployment, embeddingDeployment)
var models = toObject(deployments, d => d.name, d => d.name)
var backends = map(regions, r => {
  name: r
  endpoint: 'https://ai-${r}-${token}.openai.azure.com'
  priority: 1
  weight: 1
  credential: 'managedIdentity'
  models: models
})
var edgeLabel = empty(dnsLabel) ? 'gw-${token}' : dnsLabel

resource group 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: 'rg-${environmentName}'
  location: location
  tags: tags
}

module observe 'observe.bicep' = {
  name: 'observe'
  scope: group
  params: {
    location: location
    tags: tags
    token: token
    private: isPrivate
    retentionInDays: logRetentionDays
    dailyQuotaGb: dailyLogQuotaGb
    compatibilityAlias: compatibilityAlias
    alertEmail: alertEmail
    monthlyBudget: monthlyBudget
    budgetStart: budgetStart
  }
}

module net 'network.bicep' = if (isPrivate) {
  name: 'network'
  scope: group
  params: {
    location: location
    tags: tags
    token: token
    addressPrefix: addressPrefix
    allowedSources: allowedSources
    functionPrivateEndpoint: functionPrivateEndpoint
    monitorPrivateLink: monitorPrivateLink
    workspaceId: observe.outputs.workspaceId
    componentId: observe.outputs.componentId
    endpointId: observe.outputs.endpointId
  }
}

// One after the other: two private endpoints in one subnet at a time fail at random.
@batchSize(1)
module ai 'ai.bicep' = [for region in regions: {
  name: 'ai-${region}'
  scope: group
  params: {
    location: region
    linkLocation: location
    tags: tags
    name: 'ai-${region}-${token}'
    kind: accountKind
    private: isPrivate
    deployments: deployments
    diagnostics: aiDiagnostics
    workspaceId: observe.outputs.workspaceId
    linksSubnetId: net.?outputs.linksSubnetId ?? ''
    zones: net.?outputs.zones ?? {}
  }
}]

module app 'app.bicep' = {
  name: 'app'
  scope: group
  dependsOn: [ai]
  params: {
    location: location
    tags: tags
    token: token
    private: isPrivate
    storageSku: storageSku
    auditRetentionDays: auditRetentionDays
    purgeProtection: purgeProtection
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    httpConcurrency: httpConcurrency
    alwaysReady: alwaysReady
    backends: string(backends)
    accountNames: [for region in regions: 'ai-${region}-${token}']
    adminKey: adminKey
    operatorId: operatorId
    operatorType: operatorType
    entraTenantId: entraTenantId
    entraAudience: entraAudience
    entraProduct: entraProduct
    workspaceName: observe.outputs.workspaceName
    componentName: observe.outputs.componentName
    ruleName: observe.outputs.ruleName
    logsEndpoint: observe.outputs.logsEndpoint
    logsRule: observe.outputs.logsRule
    logsStream: observe.outputs.logsStream
    edgeSubnetId: net.?outputs.edgeSubnetId ?? ''
    appSubnetId: net.?outputs.appSubnetId ?? ''
    linksSubnetId: net.?outputs.linksSubnetId ?? ''
    zones: net.?outputs.zones ?? {}
    functionPrivateEndpoint: functionPrivateEndpoint
    scmAccess: scmAccess
  }
}

module edge 'edge.bicep' = if (isPrivate) {
  name: 'edge'
  scope: group
  params: {
    location: location
    tags: tags
    token: token
    subnetId: net.?outputs.edgeSubnetId ?? ''
    siteHostName: app.outputs.siteHostName
    functionPrivateEndpoint: functionPrivateEndpoint
    vaultName: app.outputs.vaultName
    dnsLabel: edgeLabel
    tlsSecretId: tlsSecretId
    tlsPfx: tlsPfx
    wafMode: wafMode
    minCapacity: edgeMinCapacity
    maxCapacity: edgeMaxCapacity
    workspaceId: observe.outputs.workspaceId
  }
}

output AZURE_LOCATION string = location
output AZURE_TENANT_ID string = tenant().tenantId
output AZURE_RESOURCE_GROUP string = group.name
output GW_NETWORK string = network
output GW_URL string = 'https://${!empty(gatewayHostName) ? gatewayHostName : (edge.?outputs.hostName ?? app.outputs.siteHostName)}'
output GW_FUNCTION_APP string = app.outputs.siteName
output GW_IDENTITY_CLIENT_ID string = app.outputs.identityClientId
output GW_BACKENDS string = string(backends)
output GW_TABLE_ENDPOINT string = app.outputs.tableEndpoint
output GW_BLOB_ENDPOINT string = app.outputs.blobEndpoint
output GW_KEY_VAULT_URI string = app.outputs.vaultUri
output GW_LOGS_ENDPOINT string = observe.outputs.logsEndpoint
output GW_LOGS_RULE string = observe.outputs.logsRule
output GW_LOGS_STREAM string = observe.outputs.logsStream
output GW_WORKSPACE_ID string = observe.outputs.workspaceCustomerId
