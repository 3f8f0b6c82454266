"""One client for each outside system, speaking its real HTTP or SMTP, and what guards their calls."""
