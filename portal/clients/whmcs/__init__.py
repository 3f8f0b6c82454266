"""The client of WHMCS: its API, and the records its answers become."""
