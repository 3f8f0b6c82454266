"""The SQL ledger: the tables, transactions, and the queries over what is not a fulfillment."""
