"""The queue: what RQ carries, and how Redis is reached."""
