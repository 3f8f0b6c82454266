"""Whether every text a customer reads is said in every language: `make i18n-check`."""
