// What the gateway's rows become: the rule that fills their table (rows.bicep), a workbook to read it, alerts, a budget.
param location string
param tags object

@minLength(13)
param token string
param private bool

@description('Whether public endpoints are closed: in private, but for the step from public to it.')
param closed bool
param retentionInDays int
param dailyQuotaGb int

@description('Id of a workspace that exists; empty makes one.')
param logWorkspaceId string
param compatibilityAlias string
param alertEmail string
param monthlyBudget int
param budgetStart string

var columns = loadJsonContent('columns.json')
var streamName = 'Custom-GatewayLogs_CL'

var alerts = [
  {
    name: 'errors'
    title: 'Gateway: errors or throttling above 5 percent'
    severity: 2
    query: loadTextContent('queries/alert-errors.kql')
  }
  {
    name: 'no-backend'
    title: 'Gateway: no region answers'
    severity: 1
    query: loadTextContent('queries/alert-no-backend.kql')
  }
  {
    name: 'latency'
    title: 'Gateway: answers are slow'
    severity: 3
    query: loadTextContent('queries/alert-latency.kql')
  }
  {
    name: 'quota'
    title: 'Gateway: a subscription is out of quota'
    severity: 3
    query: loadTextContent('queries/alert-quota.kql')
  }
  {
    name: 'daily-cap'
    title: 'Gateway: Log Analytics drops rows, the daily cap is reached'
    severity: 2
    query: loadTextContent('queries/alert-daily-cap.kql')
  }
]

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-07-01' = if (empty(logWorkspaceId)) {
  name: 'log-${token}'
  location: location
  tags: tags
  properties: {
    sku: { name: 'PerGB2018' }
    retentionInDays: retentionInDays
    workspaceCapping: { dailyQuotaGb: dailyQuotaGb }
    publicNetworkAccessForIngestion: closed ? 'Disabled' : 'Enabled'
    publicNetworkAccessForQuery: 'Enabled'
    features: { disableLocalAuth: true, enableLogAccessUsingOnlyResourcePermissions: true }
  }
}

var workspaceId = empty(logWorkspaceId) ? workspace.id : logWorkspaceId

// Known at the start, as a scope must be. A table of a workspace is made in the workspace's own resource group.
var ownWorkspaceId = resourceId('Microsoft.OperationalInsights/workspaces', 'log-${token}')
var workspaceParts = split(empty(logWorkspaceId) ? ownWorkspaceId : logWorkspaceId, '/')

module rows 'rows.bicep' = {
  name: 'rows-${token}'
  scope: resourceGroup(workspaceParts[2], workspaceParts[4])
  dependsOn: [workspace]
  params: {
    workspaceName: last(workspaceParts)
    retentionInDays: retentionInDays
    compatibilityAlias: compatibilityAlias
  }
}

resource component 'Microsoft.Insights/components@2020-02-02' = {
  name: 'appi-${token}'
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: workspaceId
    IngestionMode: 'LogAnalytics'
    DisableLocalAuth: true
    publicNetworkAccessForIngestion: closed ? 'Disabled' : 'Enabled'
    publicNetworkAccessForQuery: 'Enabled'
  }
}

resource endpoint 'Microsoft.Insights/dataCollectionEndpoints@2024-03-11' = if (private) {
  name: 'dce-${token}'
  location: location
  tags: tags
  properties: {
    networkAcls: { publicNetworkAccess: closed ? 'Disabled' : 'Enabled' }
  }
}

// Kind Direct has an ingestion endpoint of its own, so only the private variant needs another.
resource rule 'Microsoft.Insights/dataCollectionRules@2024-03-11' = {
  name: 'dcr-${token}'
  location: location
  tags: tags
  kind: 'Direct'
  dependsOn: [rows]
  properties: {
    dataCollectionEndpointId: private ? endpoint.id : null
    streamDeclarations: {
      '${streamName}': { columns: columns }
    }
    destinations: {
      logAnalytics: [
        { name: 'workspace', workspaceResourceId: workspaceId }
      ]
    }
    dataFlows: [
      {
        streams: [streamName]
        destinations: ['workspace']
        transformKql: 'source'
        outputStream: streamName
      }
    ]
  }
}

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(resourceGroup().id, 'gateway', 'workbook')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: 'Gateway for Azure OpenAI'
    category: 'workbook'
    sourceId: workspaceId
    serializedData: loadTextContent('workbook.json')
    version: '1.0'
  }
}

resource mail 'Microsoft.Insights/actionGroups@2023-01-01' = if (!empty(alertEmail)) {
  name: 'ag-${token}'
  location: 'global'
  tags: tags
  properties: {
    groupShortName: 'gateway'
    enabled: true
    emailReceivers: [
      { name: 'operators', emailAddress: alertEmail, useCommonAlertSchema: true }
    ]
  }
}

// Without skipQueryValidation the rule is refused at random: the table is seconds old.
resource alert 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [
  for a in alerts: if (!empty(alertEmail)) {
    name: 'alert-${a.name}-${token}'
    location: location
    tags: tags
    kind: 'LogAlert'
    dependsOn: [rows]
    properties: {
      displayName: a.title
      severity: a.severity
      enabled: true
      scopes: [workspaceId]
      evaluationFrequency: 'PT15M'
      windowSize: 'PT15M'
      criteria: {
        allOf: [
          {
            query: a.query
            timeAggregation: 'Count'
            operator: 'GreaterThan'
            threshold: 0
            failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
          }
        ]
      }
      skipQueryValidation: true
      autoMitigate: true
      actions: { actionGroups: [mail.id] }
    }
  }
]

resource budget 'Microsoft.Consumption/budgets@2024-08-01' = if (monthlyBudget > 0 && !empty(alertEmail)) {
  name: 'budget-${token}'
  properties: {
    category: 'Cost'
    amount: monthlyBudget
    timeGrain: 'Monthly'
    timePeriod: { startDate: budgetStart }
    notifications: {
      most: { enabled: true, operator: 'GreaterThanOrEqualTo', threshold: 80, thresholdType: 'Actual', contactEmails: [alertEmail] }
      all: { enabled: true, operator: 'GreaterThanOrEqualTo', threshold: 100, thresholdType: 'Actual', contactEmails: [alertEmail] }
    }
  }
}

output workspaceId string = workspaceId
output workspaceCustomerId string = rows.outputs.customerId
output componentId string = component.id
output endpointId string = private ? endpoint.id : ''
output logsEndpoint string = private ? endpoint!.properties.logsIngestion.endpoint : rule.properties.endpoints.logsIngestion
output logsRule string = rule.properties.immutableId
output logsStream string = streamName
output actionGroupId string = empty(alertEmail) ? '' : mail.id
