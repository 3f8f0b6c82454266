"""The signed doors under attack, and what their tests share."""
