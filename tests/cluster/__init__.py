"""Several hosts on one machine: `make cluster-test`."""
