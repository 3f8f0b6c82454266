"""The client of Salesforce: signing in, the queries, the records they become, and what its errors mean."""
