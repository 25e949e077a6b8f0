// The whole gateway: one resource group, two variants. `public` costs nothing while nobody calls; `private`
// puts an Application Gateway with WAF in front and every service behind private endpoints.
// README, "Deploy", shows the graph of these modules; a test holds the two together.
targetScope = 'subscription'

import { account, model } from 'types.bicep'

@minLength(1)
@maxLength(64)
@description('Name of the azd environment; the resource group has it in its name.')
param environmentName string

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
private: about $390 a month while nobody calls. Adds an Application Gateway with WAF as the only way in, a virtual network, and private endpoints; nothing else is reachable from outside.
''')
@allowed([
  'public'
  'private'
])
param network string

@description('private: true leaves the public endpoints open beside the private ones: the step between public and private.')
param keepOpen bool = false

@description('Not for you to set: the network that the last provision made. azd keeps the output.')
param networkBefore string = ''

@description('Regions with an AI account each, separated by commas. The gateway spreads over them and fails over between them.')
param aiRegions string = 'eastus2,swedencentral'

@description('Model deployments of every AI region: name (for clients), model, version (empty: the region\'s default), sku, capacity, regions (empty: all), retires.')
param models model[] = loadJsonContent('models.json')

@description('Azure OpenAI and Foundry accounts that exist already: name, id or endpoint, models, and optionally priority, weight, credential.')
param accounts account[] = loadJsonContent('accounts.json')

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
@description('Requests that one instance serves at a time before another is started. The longest body follows from it and from the memory.')
param httpConcurrency int = 50

@description('Defaults for production: zone redundancy, two warm instances, purge protection, an Application Gateway of at least two instances.')
param production bool = false

@minValue(0)
@maxValue(1000)
@description('Instances kept warm and paid for at all times.')
param alwaysReady int = production ? 2 : 0

@description('Whether the instances of the app are spread over availability zones. The region must have them.')
param zoneRedundant bool = production

@allowed([
  'Standard_LRS'
  'Standard_ZRS'
  'Standard_GRS'
  'Standard_GZRS'
])
@description('Redundancy of the storage account of the records. Set it before the first provision: later, zones come or go by a migration of the account.')
param storageSku string = production ? 'Standard_ZRS' : 'Standard_LRS'

@minValue(1)
@maxValue(36500)
@description('Days after which records are deleted from the archive; soft delete keeps them for seven more.')
param auditRetentionDays int = 365

@minValue(0)
@maxValue(146000)
@description('Days in which nobody can delete or overwrite a record; 0: none. With it Azure deletes no record by age either. See README first.')
param auditImmutableDays int = 0

@minValue(30)
@maxValue(730)
@description('Days that Log Analytics keeps the rows.')
param logRetentionDays int = 30

@minValue(-1)
@maxValue(10000)
@description('Gigabytes a day after which Log Analytics takes no more rows, roughly; -1 is no cap. The archive is not affected.')
param dailyLogQuotaGb int = 1

@description('Id of a Log Analytics workspace that exists, in the region of the gateway; empty makes one.')
param logWorkspaceId string = ''

@description('Name under which API Management\'s queries find the rows; empty makes no such function. It hides a real table of its name.')
param compatibilityAlias string = empty(logWorkspaceId) ? 'ApiManagementGatewayLogs' : ''

@description('Where alerts go. Empty: no alert rules.')
param alertEmail string = ''

@minValue(0)
@maxValue(100000000)
@description('Monthly budget in the subscription\'s currency, with mails at 80 and 100 percent to alertEmail. 0: none.')
param monthlyBudget int = 0

@description('First month of the budget. Azure refuses to change it, so azd keeps the output of the first provision.')
param budgetStart string = ''

@description('Not for you to set: the month in which a new budget begins.')
param currentMonth string = utcNow('yyyy-MM-01')

@description('Whether a deleted vault must stay for its seven days. Cannot be taken back.')
param purgeProtection bool = production

@minLength(9)
@maxLength(18)
@description('private: address space, a /22 or larger.')
param addressPrefix string = '10.20.0.0/22'

@description('private: id of a subnet that exists, for the Application Gateway. All three subnets are given, or none.')
param edgeSubnetId string = ''

@description('private: id of a subnet that exists, for the app: delegated to Microsoft.App/environments, and used by nothing else.')
param appSubnetId string = ''

@description('private: id of a subnet that exists, for the private endpoints.')
param linksSubnetId string = ''

@description('private: who may reach the Application Gateway: Internet, or a CIDR range.')
param allowedSources string = 'Internet'

@description('private: who may reach /manage: addresses and ranges, separated by commas; empty is everybody who may reach the Application Gateway.')
param manageSources string = ''

@allowed([
  'Prevention'
  'Detection'
])
@description('private: Detection logs what Prevention blocks.')
param wafMode string = 'Prevention'

@minValue(0)
@maxValue(125)
@description('private: least instances of the Application Gateway, about 10 capacity units each. 0 costs the fixed price only.')
param edgeMinCapacity int = production ? 2 : 0

@minValue(2)
@maxValue(125)
@description('private: most instances of the Application Gateway, about 10 capacity units each.')
param edgeMaxCapacity int = production ? 10 : 2

@description('private: whether the Application Gateway logs each request. Its rows have the whole query, and with it the keys that clients send there.')
param edgeAccessLog bool = false

@maxLength(63)
@description('private: first part of the public name <label>.<location>.cloudapp.azure.com.')
param dnsLabel string = ''

@description('private: versionless Key Vault secret URI of the certificate. Wins over tlsPfx.')
param tlsSecretUri string = ''

@secure()
@description('private: certificate and key as a base64 PFX without a password.')
param tlsPfx string = ''

@minValue(0)
@description('Not for you to set: when the certificate of tlsPfx ends, in seconds since 1970. The hook reads it there.')
param tlsEnd int = 0

@description('private: the name clients use, when it is not the public IP\'s own.')
param gatewayHostName string = ''

@description('private: false lets the Application Gateway in by an access rule instead of a private endpoint. See README, "When it goes wrong".')
param functionPrivateEndpoint bool = true

@description('private: false when a hub brings its own Azure Monitor Private Link Scope.')
param monitorPrivateLink bool = true

@description('private: id of the resource group that has the private DNS zones of a hub, linked to this network by the hub; empty makes zones here.')
param dnsZonesGroupId string = ''

@allowed([
  'public'
  'private'
])
@description('private: whether azd can deploy from anywhere with an Entra token, or from inside the network only.')
param scmAccess string = 'public'

@secure()
@description('Admin key of the gateway, 32 characters or more. A hook of azd makes one.')
param adminKey string = ''

@description('Whether the vault keeps the admin key that it has: this machine does not know it, or it is the same.')
param secretsKept bool = false

@description('Not for you to set: whether the vault has a certificate since the last provision. azd keeps the output.')
param certificateKept bool = false

@description('Not for you to set: a word of the hook for the secrets of this machine. It changes when they do.')
param writeMark string = ''

@description('Not for you to set: the word of the last provision, whose secrets the vault has. azd keeps the output.')
param writtenMark string = ''

@description('Object id of a person or group that may change secrets and read logs; empty is nobody.')
param operatorId string = ''

@allowed([
  'User'
  'Group'
  'ServicePrincipal'
])
@description('What operatorId is.')
param operatorType string = 'User'

@description('Object id of a person or group that may read records, verify them and read logs; empty is nobody.')
param auditorId string = ''

@allowed([
  'User'
  'Group'
  'ServicePrincipal'
])
@description('What auditorId is.')
param auditorType string = 'User'

@description('Tags of every resource: name=value, separated by commas.')
param extraTags string = ''

@description('Entra tenant whose access tokens callers may send instead of a key, or beside one; empty takes none.')
param entraTenantId string = ''

@description('What tokens must be for: the client id of the gateway\'s registration in Entra.')
param entraAudience string = ''

@description('Product of callers with a token but neither a key nor an app role product.<name>; empty refuses them.')
param entraProduct string = ''

var isPrivate = network == 'private'
var abrupt = isPrivate && networkBefore == 'public' && !keepOpen
var closed = abrupt ? fail('public becomes private in two steps: first with GW_KEEP_OPEN true, then with false') : isPrivate && !keepOpen
var token = toLower(uniqueString(subscription().id, environmentName, location))
var tagList = map(filter(split(extraTags, ','), t => contains(t, '=')), t => split(t, '='))
var tags = union(toObject(tagList, t => trim(t[0]), t => trim(t[1])), { 'azd-env-name': environmentName })

// What Azure would refuse with a code half an hour later is refused here, in words.
var regionList = map(filter(split(aiRegions, ','), r => !empty(trim(r))), r => replace(toLower(trim(r)), ' ', ''))
var regions = empty(regionList) ? fail('GW_AI_REGIONS names no region') : union(regionList, regionList)
var shortKey = !empty(adminKey) && length(adminKey) < 32
var noKey = empty(adminKey) && !secretsKept
var keyRefused = shortKey || noKey
var checkedKey = keyRefused ? fail('GW_ADMIN_KEY must have 32 characters; deploy with azd, whose hook makes one') : adminKey
var noCertificate = isPrivate && empty(tlsSecretUri) && empty(tlsPfx) && !certificateKept
var checkedPfx = noCertificate ? fail('private needs GW_TLS_PFX or GW_TLS_SECRET_ID') : tlsPfx
var warm = alwaysReady > maximumInstanceCount ? fail('GW_ALWAYS_READY is over GW_MAX_INSTANCES') : alwaysReady
var edgeLeast = edgeMinCapacity > edgeMaxCapacity ? fail('GW_EDGE_MIN_CAPACITY is over GW_EDGE_MAX_CAPACITY') : edgeMinCapacity
// The Functions host reads a whole body before the program sees the request, and a host without memory ends with every
// stream in it. Of 2,048 MB it bore 75 bodies of 12 MiB at a time, but not 16 of 20 MiB: so there are two bounds.
var hostBodyMB = min(instanceMemoryMB * 3 / 10 / httpConcurrency, instanceMemoryMB / 170)
// Below the host's limit, so that a caller gets the gateway's readable 413.
var maxBodyMB = hostBodyMB < 2 ? fail('GW_HTTP_CONCURRENCY is too high for GW_MEMORY_MB: no memory is left for bodies') : hostBodyMB - 1
var budgetWithoutMail = monthlyBudget > 0 && empty(alertEmail)
var budget = budgetWithoutMail ? fail('GW_MONTHLY_BUDGET needs GW_ALERT_EMAIL, where its mails go') : monthlyBudget
var budgetMonth = empty(budgetStart) ? currentMonth : budgetStart

var subnets = filter([edgeSubnetId, appSubnetId, linksSubnetId], s => !empty(s))
var subnetIds = map(subnets, s => toLower(s))
var networkIds = map(subnetIds, s => split(s, '/subnets/')[0])
var someSubnets = !empty(subnets) && length(union(subnetIds, subnetIds)) != 3
var wholeSubnets = someSubnets ? fail('GW_EDGE_SUBNET_ID, GW_APP_SUBNET_ID, GW_LINKS_SUBNET_ID: three different subnets, or none') : subnets
var existingSubnets = length(union(networkIds, networkIds)) > 1 ? fail('GW_EDGE_SUBNET_ID, GW_APP_SUBNET_ID, GW_LINKS_SUBNET_ID must be of one network') : wholeSubnets
var isWorkspace = contains(toLower(logWorkspaceId), '/providers/microsoft.operationalinsights/workspaces/')
var noWorkspace = !empty(logWorkspaceId) && !isWorkspace
var existingWorkspace = noWorkspace ? fail('GW_LOG_WORKSPACE_ID must be the id of a Log Analytics workspace') : logWorkspaceId

var regionBackends = map(regions, r => {
  name: r
  endpoint: 'https://ai-${r}-${token}.openai.azure.com'
  priority: 1
  weight: 1
  credential: 'managedIdentity'
  models: toObject(filter(models, m => empty(m.regions) || contains(m.regions, r)), m => m.name, m => m.name)
})
// The subdomain of an account is its name, unless its entry gives an endpoint.
var accountBackends = map(accounts, a => {
  name: a.name
  endpoint: a.?endpoint ?? 'https://${last(split(a.?id ?? '', '/'))}.openai.azure.com'
  priority: a.?priority ?? 1
  weight: a.?weight ?? 1
  credential: a.?credential ?? 'managedIdentity'
  models: a.models
})
var backends = concat(regionBackends, accountBackends)
var known = map(filter(accounts, a => contains(a, 'id')), a => { name: a.name, id: a.?id ?? '' })
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
    closed: closed
    retentionInDays: logRetentionDays
    dailyQuotaGb: dailyLogQuotaGb
    logWorkspaceId: existingWorkspace
    compatibilityAlias: compatibilityAlias
    alertEmail: alertEmail
    monthlyBudget: budget
    budgetStart: budgetMonth
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
    dnsZonesGroupId: dnsZonesGroupId
    existingSubnets: existingSubnets
    workspaceId: observe.outputs.workspaceId
    componentId: observe.outputs.componentId
    endpointId: observe.outputs.endpointId
  }
}

// One after the other, here and in all that follows: two private endpoints in one subnet at a time fail at random. All stand
// before the app joins the network, where the names of a service with an endpoint lead nowhere else.
@batchSize(1)
module ai 'ai.bicep' = [
  for region in regions: {
    name: 'ai-${region}'
    scope: group
    params: {
      location: region
      linkLocation: location
      tags: tags
      name: 'ai-${region}-${token}'
      kind: accountKind
      private: isPrivate
      closed: closed
      deployments: filter(models, m => empty(m.regions) || contains(m.regions, region))
      diagnostics: aiDiagnostics
      workspaceId: observe.outputs.workspaceId
      linksSubnetId: net.?outputs.linksSubnetId ?? ''
      zones: net.?outputs.zones ?? {}
    }
  }
]

module store 'store.bicep' = {
  name: 'store'
  scope: group
  dependsOn: [ai]
  params: {
    location: location
    tags: tags
    token: token
    private: isPrivate
    closed: closed
    storageSku: storageSku
    auditRetentionDays: auditRetentionDays
    auditImmutableDays: auditImmutableDays
    purgeProtection: purgeProtection
    adminKey: checkedKey
    tlsSecretUri: tlsSecretUri
    tlsPfx: checkedPfx
    tlsEnd: tlsEnd
    alerts: !empty(alertEmail)
    actionGroupId: observe.outputs.actionGroupId
    secretsUnchanged: !empty(writeMark) && writeMark == writtenMark
    operatorId: operatorId
    operatorType: operatorType
    auditorId: auditorId
    auditorType: auditorType
    workspaceId: observe.outputs.workspaceId
    linksSubnetId: net.?outputs.linksSubnetId ?? ''
    zones: net.?outputs.zones ?? {}
  }
}

module app 'app.bicep' = {
  name: 'app'
  scope: group
  dependsOn: [ai, attachLink]
  params: {
    location: location
    tags: tags
    token: token
    private: isPrivate
    closed: closed
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    httpConcurrency: httpConcurrency
    hostBodyBytes: hostBodyMB * 1048576
    maxBodyMB: maxBodyMB
    alwaysReady: warm
    zoneRedundant: zoneRedundant
    backends: string(backends)
    regionNames: regions
    operatorId: operatorId
    operatorType: operatorType
    auditorId: auditorId
    auditorType: auditorType
    entraTenantId: entraTenantId
    entraAudience: entraAudience
    entraProduct: entraProduct
    store: store.outputs.endpoints
    logsEndpoint: observe.outputs.logsEndpoint
    logsRule: observe.outputs.logsRule
    logsStream: observe.outputs.logsStream
    edgeSubnetId: net.?outputs.edgeSubnetId ?? ''
    appSubnetId: net.?outputs.appSubnetId ?? ''
    linksSubnetId: net.?outputs.linksSubnetId ?? ''
    zones: net.?outputs.zones ?? {}
    functionPrivateEndpoint: functionPrivateEndpoint
    scmAccess: scmAccess
    ownWorkspace: empty(logWorkspaceId)
  }
}

// In the accounts' own resource groups, which may be of another subscription.
module attach 'attach.bicep' = [
  for a in known: {
    name: 'attach-${a.name}'
    scope: resourceGroup(split(a.id, '/')[2], split(a.id, '/')[4])
    params: {
      accountName: last(split(a.id, '/'))
      principalId: store.outputs.principalId
    }
  }
]

@batchSize(1)
module attachLink 'link.bicep' = [
  for a in known: if (isPrivate) {
    name: 'link-${a.name}'
    scope: group
    dependsOn: [store]
    params: {
      name: 'pe-${a.name}-${token}'
      location: location
      tags: tags
      subnetId: net.?outputs.linksSubnetId ?? ''
      serviceId: a.id
      groupId: 'account'
      zoneIds: [
        net.?outputs.zones.openai ?? ''
        net.?outputs.zones.cognitiveservices ?? ''
        net.?outputs.zones.aiservices ?? ''
      ]
    }
  }
]

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
    certificateUri: store.outputs.certificateUri
    dnsLabel: edgeLabel
    wafMode: wafMode
    manageSources: manageSources
    minCapacity: edgeLeast
    maxCapacity: edgeMaxCapacity
    accessLog: edgeAccessLog
    workspaceId: observe.outputs.workspaceId
    alerts: !empty(alertEmail)
    actionGroupId: observe.outputs.actionGroupId
  }
}

output AZURE_LOCATION string = location
output AZURE_TENANT_ID string = tenant().tenantId
output AZURE_RESOURCE_GROUP string = group.name
output GW_NETWORK string = network
output GW_NETWORK_BEFORE string = network
output GW_WRITTEN_MARK string = empty(writeMark) ? writtenMark : writeMark
output GW_CERTIFICATE_KEPT string = (isPrivate && empty(tlsSecretUri)) || certificateKept ? 'true' : 'false'
output GW_URL string = 'https://${isPrivate && !empty(gatewayHostName) ? gatewayHostName : (edge.?outputs.hostName ?? app.outputs.siteHostName)}'
output GW_DNS_LABEL string = edgeLabel
output GW_BUDGET_START string = monthlyBudget > 0 ? budgetMonth : budgetStart
output GW_FUNCTION_APP string = app.outputs.siteName
output GW_IDENTITY_CLIENT_ID string = store.outputs.endpoints.identityClientId
output GW_BACKENDS string = string(backends)
output GW_TABLE_ENDPOINT string = store.outputs.endpoints.table
output GW_BLOB_ENDPOINT string = store.outputs.endpoints.blob
output GW_KEY_VAULT_URI string = store.outputs.endpoints.vault
output GW_LOGS_ENDPOINT string = observe.outputs.logsEndpoint
output GW_LOGS_RULE string = observe.outputs.logsRule
output GW_LOGS_STREAM string = observe.outputs.logsStream
output GW_WORKSPACE_ID string = observe.outputs.workspaceCustomerId

// The settings of this deployment: another machine that lacked them would deploy the defaults. The hook refuses to deploy
// without them, and on a machine that does not know the last deployment. Azure takes no more than 64 outputs.
output GW_DEPLOYMENT string = deployment().name
output GW_KEEP_OPEN string = keepOpen ? 'true' : 'false'
output GW_AI_REGIONS string = aiRegions
output GW_AI_KIND string = accountKind
output GW_AI_DIAGNOSTICS string = aiDiagnostics ? 'true' : 'false'
output GW_MEMORY_MB string = string(instanceMemoryMB)
output GW_MAX_INSTANCES string = string(maximumInstanceCount)
output GW_HTTP_CONCURRENCY string = string(httpConcurrency)
output GW_ALWAYS_READY string = alwaysReady == (production ? 2 : 0) ? '' : string(alwaysReady)
output GW_PRODUCTION string = production ? 'true' : 'false'
output GW_ZONE_REDUNDANT string = zoneRedundant == production ? '' : (zoneRedundant ? 'true' : 'false')
output GW_STORAGE_SKU string = storageSku
output GW_AUDIT_RETENTION_DAYS string = string(auditRetentionDays)
output GW_AUDIT_IMMUTABLE_DAYS string = string(auditImmutableDays)
output GW_LOG_RETENTION_DAYS string = string(logRetentionDays)
output GW_DAILY_LOG_QUOTA_GB string = string(dailyLogQuotaGb)
output GW_LOG_WORKSPACE_ID string = logWorkspaceId
output GW_COMPAT_ALIAS string = compatibilityAlias
output GW_ALERT_EMAIL string = alertEmail
output GW_MONTHLY_BUDGET string = string(monthlyBudget)
output GW_ADDRESS_PREFIX string = addressPrefix
output GW_EDGE_SUBNET_ID string = edgeSubnetId
output GW_APP_SUBNET_ID string = appSubnetId
output GW_LINKS_SUBNET_ID string = linksSubnetId
output GW_ALLOWED_SOURCES string = allowedSources
output GW_MANAGE_SOURCES string = manageSources
output GW_WAF_MODE string = wafMode
output GW_EDGE_MIN_CAPACITY string = edgeMinCapacity == (production ? 2 : 0) ? '' : string(edgeMinCapacity)
output GW_EDGE_MAX_CAPACITY string = edgeMaxCapacity == (production ? 10 : 2) ? '' : string(edgeMaxCapacity)
output GW_EDGE_ACCESS_LOG string = edgeAccessLog ? 'true' : 'false'
output GW_TLS_SECRET_ID string = tlsSecretUri
output GW_HOST_NAME string = gatewayHostName
output GW_FUNCTION_PRIVATE_ENDPOINT string = functionPrivateEndpoint ? 'true' : 'false'
output GW_MONITOR_PRIVATE_LINK string = monitorPrivateLink ? 'true' : 'false'
output GW_DNS_ZONES_GROUP_ID string = dnsZonesGroupId
output GW_SCM_ACCESS string = scmAccess
output GW_OPERATOR_ID string = operatorId
output GW_OPERATOR_TYPE string = operatorType
output GW_AUDITOR_ID string = auditorId
output GW_AUDITOR_TYPE string = auditorType
output GW_ENTRA_TENANT string = entraTenantId
output GW_ENTRA_AUDIENCE string = entraAudience
output GW_ENTRA_PRODUCT string = entraProduct
output GW_TAGS string = extraTags
