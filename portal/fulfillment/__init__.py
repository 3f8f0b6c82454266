"""The domain: how one Salesforce order becomes one active WHMCS order. No Flask, no RQ, no Redis here."""
