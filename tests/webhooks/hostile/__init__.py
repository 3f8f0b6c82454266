"""Hostile requests by the class, in files by what is wrong with them; importing this registers all of CLASSES.

A request is the exact bytes on the wire. A class makes them wrong in one way and right in every other, so that what
refuses them is the check in question.
"""

from tests.webhooks.hostile import documents, elsewhere, framing, fresh, signatures
from tests.webhooks.hostile.making import CLASSES, Hostile, chunked, right

__all__ = ["CLASSES", "Hostile", "chunked", "documents", "elsewhere", "framing", "fresh", "right", "signatures"]
