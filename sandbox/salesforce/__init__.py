"""A pretend Salesforce org: sign-in, REST API, and a page with the "Provision in WHMCS" button."""
