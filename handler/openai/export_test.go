package openai

// Operations returns the table in its written order.
func Operations() []Operation { return table.all }
