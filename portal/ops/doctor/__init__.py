"""`flask doctor`: holds this installation's settings against the database, Redis and both other sides.

Each category is a file; `runner` runs their checks, `printer` tells what they found.
"""
