"""The customers' pages: sign-in, catalogue, checkout and following an order."""
