// The private variant's network: three subnets, who may talk to whom, and the names that private endpoints answer to.
param location string
param tags object

@minLength(13)
param token string
param addressPrefix string
param allowedSources string
param functionPrivateEndpoint bool
param monitorPrivateLink bool
param dnsZonesGroupId string

@description('Ids of three subnets that exist: edge, app, links; empty makes a network.')
param existingSubnets array
param workspaceId string
param componentId string
param endpointId string

var makesNetwork = empty(existingSubnets)

// Whatever host bits the parameter has are dropped: Azure refuses them.
var space = '${parseCidr(addressPrefix).network}/${parseCidr(addressPrefix).cidr}'
var edgePrefix = cidrSubnet(addressPrefix, 24, 0)
var appPrefix = cidrSubnet(addressPrefix, 24, 1)
var linksPrefix = cidrSubnet(addressPrefix, 26, 8)

var storageSuffix = environment().suffixes.storage
// The vault's zone is a literal: the suffix that Bicep knows for this cloud is not the private one.
var zoneNames = {
  sites: 'privatelink.azurewebsites.net'
  blob: 'privatelink.blob.${storageSuffix}'
  table: 'privatelink.table.${storageSuffix}'
  vault: 'privatelink.vaultcore.azure.net'
  openai: 'privatelink.openai.azure.com'
  cognitiveservices: 'privatelink.cognitiveservices.azure.com'
  aiservices: 'privatelink.services.ai.azure.com'
  monitor: 'privatelink.monitor.azure.com'
  oms: 'privatelink.oms.opinsights.azure.com'
  ods: 'privatelink.ods.opinsights.azure.com'
  agentsvc: 'privatelink.agentsvc.azure-automation.net'
}

resource edgeRules 'Microsoft.Network/networkSecurityGroups@2025-05-01' = if (makesNetwork) {
  name: 'nsg-edge-${token}'
  location: location
  tags: tags
  properties: {
    securityRules: [
      {
        name: 'gateway-manager'
        properties: {
          description: 'Azure runs the Application Gateway through these ports; they take its certificates only.'
          priority: 100
          direction: 'Inbound'
          access: 'Allow'
          protocol: 'Tcp'
          sourceAddressPrefix: 'GatewayManager'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '65200-65535'
        }
      }
      {
        name: 'load-balancer'
        properties: {
          priority: 110
          direction: 'Inbound'
          access: 'Allow'
          protocol: '*'
          sourceAddressPrefix: 'AzureLoadBalancer'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '*'
        }
      }
      {
        name: 'clients'
        properties: {
          description: 'There is no port 80: a key that was sent there has crossed the network in clear.'
          priority: 120
          direction: 'Inbound'
          access: 'Allow'
          protocol: 'Tcp'
          sourceAddressPrefix: allowedSources
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '443'
        }
      }
      {
        name: 'nobody-else'
        properties: {
          priority: 4096
          direction: 'Inbound'
          access: 'Deny'
          protocol: '*'
          sourceAddressPrefix: '*'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '*'
        }
      }
    ]
  }
}

// No deny for the Internet: the app reaches itself from outside when its triggers are synchronised.
resource appRules 'Microsoft.Network/networkSecurityGroups@2025-05-01' = if (makesNetwork) {
  name: 'nsg-app-${token}'
  location: location
  tags: tags
  properties: {
    securityRules: [
      {
        name: 'links'
        properties: {
          priority: 100
          direction: 'Outbound'
          access: 'Allow'
          protocol: 'Tcp'
          sourceAddressPrefix: '*'
          sourcePortRange: '*'
          destinationAddressPrefix: linksPrefix
          destinationPortRange: '443'
        }
      }
      {
        name: 'entra'
        properties: {
          priority: 110
          direction: 'Outbound'
          access: 'Allow'
          protocol: 'Tcp'
          sourceAddressPrefix: '*'
          sourcePortRange: '*'
          destinationAddressPrefix: 'AzureActiveDirectory'
          destinationPortRange: '443'
        }
      }
      {
        name: 'monitor'
        properties: {
          priority: 120
          direction: 'Outbound'
          access: 'Allow'
          protocol: 'Tcp'
          sourceAddressPrefix: '*'
          sourcePortRange: '*'
          destinationAddressPrefix: 'AzureMonitor'
          destinationPortRange: '443'
        }
      }
    ]
  }
}

resource linkRules 'Microsoft.Network/networkSecurityGroups@2025-05-01' = if (makesNetwork) {
  name: 'nsg-links-${token}'
  location: location
  tags: tags
  properties: {
    securityRules: [
      {
        name: 'app-and-edge'
        properties: {
          description: 'Also what makes the client address that the edge sends believable: nobody else reaches the app.'
          priority: 100
          direction: 'Inbound'
          access: 'Allow'
          protocol: 'Tcp'
          sourceAddressPrefixes: [appPrefix, edgePrefix]
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '443'
        }
      }
      {
        name: 'nobody-else'
        properties: {
          priority: 4096
          direction: 'Inbound'
          access: 'Deny'
          protocol: '*'
          sourceAddressPrefix: '*'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '*'
        }
      }
      {
        name: 'nothing-out'
        properties: {
          priority: 4096
          direction: 'Outbound'
          access: 'Deny'
          protocol: '*'
          sourceAddressPrefix: '*'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '*'
        }
      }
    ]
  }
}

resource vnet 'Microsoft.Network/virtualNetworks@2025-05-01' = if (makesNetwork) {
  name: 'vnet-${token}'
  location: location
  tags: tags
  properties: {
    addressSpace: { addressPrefixes: [space] }
    subnets: [
      {
        name: 'snet-edge'
        properties: {
          addressPrefix: edgePrefix
          networkSecurityGroup: { id: edgeRules.id }
          // Said on every subnet: newer versions of this API have another default.
          defaultOutboundAccess: true
          serviceEndpoints: functionPrivateEndpoint ? [] : [
            { service: 'Microsoft.Web' }
          ]
        }
      }
      {
        // Flex Consumption wants this delegation in this very spelling, and the subnet for itself.
        name: 'snet-app'
        properties: {
          addressPrefix: appPrefix
          networkSecurityGroup: { id: appRules.id }
          defaultOutboundAccess: true
          delegations: [
            {
              name: 'flex'
              properties: { serviceName: 'Microsoft.App/environments' }
            }
          ]
        }
      }
      {
        name: 'snet-links'
        properties: {
          addressPrefix: linksPrefix
          networkSecurityGroup: { id: linkRules.id }
          privateEndpointNetworkPolicies: 'Enabled'
          defaultOutboundAccess: false
        }
      }
    ]
  }
}

var networkId = makesNetwork ? vnet.id : split(existingSubnets[0], '/subnets/')[0]
var edgeSubnet = makesNetwork ? '${vnet.id}/subnets/snet-edge' : existingSubnets[0]
var appSubnet = makesNetwork ? '${vnet.id}/subnets/snet-app' : existingSubnets[1]
var linksSubnet = makesNetwork ? '${vnet.id}/subnets/snet-links' : existingSubnets[2]

// A hub that brings its own Azure Monitor link scope brings these zones too. An empty zone would hide the public names.
var monitorZones = ['monitor', 'oms', 'ods', 'agentsvc']
var endpointZones = filter(items(zoneNames), z => monitorPrivateLink || !contains(monitorZones, z.key))
var zoneItems = empty(dnsZonesGroupId) ? endpointZones : []

resource zone 'Microsoft.Network/privateDnsZones@2024-06-01' = [
  for z in zoneItems: {
    name: z.value
    location: 'global'
    tags: tags
  }
]

resource zoneLink 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [
  for (z, i) in zoneItems: {
    parent: zone[i]
    name: 'vnet-${token}'
    location: 'global'
    tags: tags
    properties: {
      registrationEnabled: false
      virtualNetwork: { id: networkId }
    }
  }
]

// Open, because PrivateOnly would cut off every other workspace that is looked up through this network.
resource monitorScope 'Microsoft.Insights/privateLinkScopes@2021-09-01' = if (monitorPrivateLink) {
  name: 'ampls-${token}'
  location: 'global'
  tags: tags
  properties: {
    accessModeSettings: { ingestionAccessMode: 'Open', queryAccessMode: 'Open' }
  }
}

resource scopedWorkspace 'Microsoft.Insights/privateLinkScopes/scopedResources@2021-09-01' = if (monitorPrivateLink) {
  parent: monitorScope
  name: 'workspace'
  properties: { linkedResourceId: workspaceId }
}

resource scopedComponent 'Microsoft.Insights/privateLinkScopes/scopedResources@2021-09-01' = if (monitorPrivateLink) {
  parent: monitorScope
  name: 'component'
  properties: { linkedResourceId: componentId }
  dependsOn: [scopedWorkspace]
}

resource scopedEndpoint 'Microsoft.Insights/privateLinkScopes/scopedResources@2021-09-01' = if (monitorPrivateLink) {
  parent: monitorScope
  name: 'endpoint'
  properties: { linkedResourceId: endpointId }
  dependsOn: [scopedComponent]
}

module monitorLink 'link.bicep' = if (monitorPrivateLink) {
  name: 'link-monitor'
  dependsOn: [zoneLink, scopedEndpoint]
  params: {
    name: 'pe-monitor-${token}'
    location: location
    tags: tags
    subnetId: linksSubnet
    serviceId: monitorScope.id
    groupId: 'azuremonitor'
    zoneIds: [zones.monitor, zones.oms, zones.ods, zones.agentsvc, zones.blob]
  }
}

var zonesGroupId = empty(dnsZonesGroupId) ? resourceGroup().id : dnsZonesGroupId
var zones = toObject(items(zoneNames), z => z.key, z => '${zonesGroupId}/providers/Microsoft.Network/privateDnsZones/${z.value}')

output edgeSubnetId string = edgeSubnet
output appSubnetId string = appSubnet
output linksSubnetId string = linksSubnet

@description('Ids of the private DNS zones by the service they belong to.')
output zones object = zones
