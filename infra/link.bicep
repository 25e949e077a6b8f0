// One private endpoint: a service gets an address in the network, and its names point there.
param name string
param location string
param tags object
param subnetId string
param serviceId string

@description('Which of the service\'s parts: blob, table, vault, account, sites, azuremonitor.')
param groupId string

@description('Ids of the private DNS zones that get the addresses.')
param zoneIds array

resource endpoint 'Microsoft.Network/privateEndpoints@2025-05-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    subnet: { id: subnetId }
    customNetworkInterfaceName: 'nic-${name}'
    privateLinkServiceConnections: [
      {
        name: groupId
        properties: { privateLinkServiceId: serviceId, groupIds: [groupId] }
      }
    ]
  }
}

resource names 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2025-05-01' = {
  parent: endpoint
  name: 'default'
  properties: {
    privateDnsZoneConfigs: [
      for (zoneId, i) in zoneIds: {
        name: 'zone-${i}'
        properties: { privateDnsZoneId: zoneId }
      }
    ]
  }
}
