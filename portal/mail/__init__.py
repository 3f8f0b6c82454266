"""What the mails say, and the mails that are only made when they are sent."""
