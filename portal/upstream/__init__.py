"""One class for each outside system, speaking its real HTTP."""
