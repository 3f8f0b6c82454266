"""Pretend Salesforce org, pretend WHMCS and a mailbox over real HTTP/SMTP, for the demo and the tests.

Nothing here is imported by the product, and nothing here imports the product.
"""
