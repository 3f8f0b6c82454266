"""The proof of exactly-once: processes killed and stopped at every moment, and both sides asked what became of it."""
