"""The order portal between Salesforce, WHMCS and the customer who waits for an order."""
