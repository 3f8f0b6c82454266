"""A pretend WHMCS: the external API, staff and client-area pages, and the webhooks its hook file would send."""
