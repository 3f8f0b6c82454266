"""What the portal tells operators by itself: what is watched, when it is told once, and to whom."""
