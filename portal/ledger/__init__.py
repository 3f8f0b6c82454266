"""The SQL ledger: tables, transactions, and every statement there is; no other package has SQL."""
