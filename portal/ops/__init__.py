"""What operators and monitors use: health, metrics, the RQ dashboard, commands."""
