"""The order portal between Salesforce, WHMCS and the customer who waits for an order."""

__version__ = "0.1.0"
