"""The rules and the words, pure: how one Salesforce order becomes one active WHMCS order. No I/O here, and no SQL."""
