"""The deployment files are held against the programs that will read them, as far as that goes without an engine."""
