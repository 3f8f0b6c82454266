"""The signed doors: what Salesforce and WHMCS may call, and how a caller proves itself."""
