// The table of the gateway's rows, and what reads it by name: functions and saved queries. The workspace may be one that
// existed before, in another resource group.
param workspaceName string
param retentionInDays int
param compatibilityAlias string

// The program's own list: the fields of the row it sends. `make check` fails when the two differ.
var columns = loadJsonContent('columns.json')
var tableName = 'GatewayLogs_CL'

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-07-01' existing = {
  name: workspaceName
}

resource table 'Microsoft.OperationalInsights/workspaces/tables@2025-07-01' = {
  parent: workspace
  name: tableName
  properties: {
    plan: 'Analytics'
    retentionInDays: retentionInDays
    totalRetentionInDays: retentionInDays
    schema: {
      name: tableName
      // The rule says datetime, the table dateTime.
      columns: map(columns, c => { name: c.name, type: c.type == 'datetime' ? 'dateTime' : c.type })
    }
  }
}

resource neutral 'Microsoft.OperationalInsights/workspaces/savedSearches@2025-07-01' = {
  parent: workspace
  name: 'gatewaylogs'
  dependsOn: [table]
  properties: {
    category: 'Gateway'
    displayName: 'GatewayLogs'
    functionAlias: 'GatewayLogs'
    functionParameters: ''
    query: loadTextContent('queries/GatewayLogs.kql')
    version: 2
    // Without it Azure answers the second provision with 409. It belongs here, whatever the published types say:
    // at the top level Resource Manager refuses the whole template.
    #disable-next-line BCP037
    etag: '*'
  }
}

// A stored function wins over a table of its name, so API Management's queries find our rows.
resource compatible 'Microsoft.OperationalInsights/workspaces/savedSearches@2025-07-01' = if (!empty(compatibilityAlias)) {
  parent: workspace
  name: 'compatible'
  dependsOn: [neutral]
  properties: {
    category: 'Gateway'
    displayName: compatibilityAlias
    functionAlias: compatibilityAlias
    functionParameters: ''
    query: loadTextContent('queries/ApiManagementGatewayLogs.kql')
    version: 2
    #disable-next-line BCP037
    etag: '*'
  }
}

resource compatibleLlm 'Microsoft.OperationalInsights/workspaces/savedSearches@2025-07-01' = if (!empty(compatibilityAlias)) {
  parent: workspace
  name: 'compatible-llm'
  dependsOn: [compatible]
  properties: {
    category: 'Gateway'
    displayName: 'ApiManagementGatewayLlmLog'
    functionAlias: 'ApiManagementGatewayLlmLog'
    functionParameters: ''
    query: loadTextContent('queries/ApiManagementGatewayLlmLog.kql')
    version: 2
    #disable-next-line BCP037
    etag: '*'
  }
}

// The Functions host counts what the gateway never heard of. handler/gateway/README.md, "Answers that do not come from the
// gateway", explains it.
resource withoutRecord 'Microsoft.OperationalInsights/workspaces/savedSearches@2025-07-01' = {
  parent: workspace
  name: 'requests-without-record'
  dependsOn: [neutral]
  properties: {
    category: 'Gateway'
    displayName: 'Requests without a record'
    query: loadTextContent('queries/requests-without-record.kql')
    version: 2
    #disable-next-line BCP037
    etag: '*'
  }
}

output customerId string = workspace.properties.customerId
