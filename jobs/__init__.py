"""The processes behind the web: the RQ job, its worker, and the sweep."""
