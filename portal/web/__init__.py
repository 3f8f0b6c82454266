"""What every page and every webhook receiver shares."""
