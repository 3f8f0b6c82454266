"""The least that Flask can answer: what the status polls are measured beside."""

from __future__ import annotations

from flask import Flask

app = Flask(__name__)


@app.get("/")
def hello() -> str:
    """A word."""
    return "hello"


#: What gunicorn serves: the portal's worker asks a Flask application for its parts, and this one has none.
served = app.wsgi_app
