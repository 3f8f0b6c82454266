"""What happens to an order: the seven steps, the run that does them, the executor of the protocol, the audits after."""
