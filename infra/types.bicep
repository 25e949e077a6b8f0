// What main.bicep takes as lists. The compiler holds models.json and accounts.json to these types.

@export()
@description('A model deployment of every AI region, or of some.')
type model = {
  @description('The name that clients use.')
  name: string
  model: string

  @description('Empty: the default of the region.')
  version: string
  sku: string

  @description('Thousands of tokens a minute, or provisioned units.')
  @minValue(1)
  capacity: int

  @description('Empty: all regions.')
  regions: string[]

  @description('When Azure retires it, as 2027-09-21; empty: not known.')
  retires: string
}

@export()
@description('An Azure OpenAI or Foundry account that exists already. It has an id, an endpoint, or both.')
type account = {
  name: string
  id: string?
  endpoint: string?
  priority: int?
  weight: int?
  credential: string?

  @description('Deployments of the account by the names that clients use.')
  models: { *: string }
}
