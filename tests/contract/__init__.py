"""The contract between Salesforce and the portal, held from both ends: the Apex as shipped, the receiver as it runs."""
