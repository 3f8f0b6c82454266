"""HTML of the sandboxes' pages: a frame without outside resources, tables, and buttons that post."""

from __future__ import annotations

import html
import json
import os
from typing import Any

from sandbox.wire import Response

STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--accent:#0b5cad;--link:#0b5cad;--paper:#fff;--ink:#16191d}
@media (prefers-color-scheme:dark){:root{--link:#8ec0ff;--paper:#16191d;--ink:#eceff3}}
*{box-sizing:border-box}html{background:var(--paper);color:var(--ink)}
body{background:var(--paper);font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:70rem;padding:1rem}
a{color:var(--link)}
.band{background:#ffd54a;color:#1a1a1a;margin:-1rem -1rem 1rem;padding:.4rem 1rem;display:flex;flex-wrap:wrap;
gap:0 1.25rem;align-items:center}.band strong{flex:1 1 14rem}.band a{color:#1a1a1a}
.band nav{display:flex;flex-wrap:wrap;gap:0 1.25rem}
header{border-bottom:2px solid var(--accent);margin-bottom:1rem}header p{margin:0}header a{margin-right:1rem}
.band a,header nav a{display:inline-flex;align-items:center;min-height:2.75rem;min-width:2.75rem}
.unseen{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
h1{font-size:1.4rem;margin:.5rem 0}h2{font-size:1.1rem;margin:1.5rem 0 .5rem}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem}dt{font-weight:600}dd{margin:0}
form{display:inline-block;margin:.2rem .4rem .2rem 0}
form.wide{display:block}
button{font:inherit;padding:.4rem .9rem;border:1px solid var(--accent);border-radius:.3rem;background:transparent;
color:inherit;cursor:pointer;min-height:2.5rem}button.main{background:var(--accent);color:#fff}
.badge{border:1px solid var(--line);border-radius:1rem;padding:.05rem .6rem;white-space:nowrap;background:var(--soft)}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--soft);padding:.6rem;margin:0}
td input{width:1.75rem;height:1.75rem}
@media (max-width:40rem){dl{grid-template-columns:1fr}dd{margin-bottom:.4rem}
table,tbody,tr,td{display:block}thead{display:none}
tr{border:1px solid var(--line);border-radius:.5rem;margin-bottom:.75rem;padding:.25rem 0}
td{border:0;display:grid;grid-template-columns:8rem minmax(0,1fr);overflow-wrap:anywhere}td:empty{display:none}
td::before{content:attr(data-label);font-weight:600}}
"""


def esc(value: Any) -> str:
    """HTML-escaped text; None becomes nothing."""
    return "" if value is None else html.escape(str(value))


def table(headings: list[str], rows: list[list[str]], empty: str = "Nothing yet.") -> str:
    """A table; cells are HTML already."""
    if not rows:
        return f"<p>{esc(empty)}</p>"
    head = "".join(f'<th scope="col" role="columnheader">{esc(heading)}</th>' for heading in headings)
    # On a phone each row is a card: the roles keep what `display` takes from a table, the labels stand in for its head.
    body = "".join(
        '<tr role="row">'
        + "".join(
            f'<td role="cell" data-label="{esc(heading)}">{cell}</td>'
            for heading, cell in zip(headings, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table role="table"><thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">{body}</tbody></table></div>'
    )


def band(site: str) -> str:
    """What says on each page that it is a pretend one, with the way to the others (SANDBOX_NEIGHBOURS, JSON)."""
    others = json.loads(os.environ.get("SANDBOX_NEIGHBOURS") or "{}")
    links = "".join(f'<a href="{esc(address)}">{esc(name)}</a>' for name, address in others.items() if name not in site)
    navigation = f'<nav aria-label="The demo\'s other sides">{links}</nav>' if links else ""
    return (
        f'<div class="band" role="region" aria-label="Pretend"><strong>Pretend: {esc(site)}</strong>{navigation}</div>'
    )


def page(
    site: str, title: str, body: str, links: dict[str, str], refresh: int | None = None, status: int = 200
) -> Response:
    """A whole page without outside resources; `links` maps text to address; `refresh` reloads it."""
    navigation = "".join(f'<a href="{esc(href)}">{esc(text)}</a>' for text, href in links.items())
    again = f'<meta http-equiv="refresh" content="{refresh}">' if refresh else ""
    text = (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{esc(title)} – {esc(site)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{again}<style>{STYLE}</style></head>'
        f'<body>{band(site)}<header><nav aria-label="{esc(site)}">{navigation}</nav></header><main>'
        f"<h1>{esc(title)}</h1>{body}</main>"
        "</body></html>"
    )
    return Response(
        status,
        text,
        headers=[
            (
                "Content-Security-Policy",
                "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-src 'self'; "
                "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            ),
            ("X-Content-Type-Options", "nosniff"),
            ("Cache-Control", "no-store"),
        ],
    )


def button(action: str, text: str, main: bool = False, **fields: Any) -> str:
    """A form with one button that posts."""
    hidden = "".join(f'<input type="hidden" name="{esc(name)}" value="{esc(value)}">' for name, value in fields.items())
    css = ' class="main"' if main else ""
    return f'<form method="post" action="{esc(action)}">{hidden}<button{css}>{esc(text)}</button></form>'


def checkbox(name: str, value: str, label: str) -> str:
    """One of several boxes of a form, for a table's cell."""
    return f'<input type="checkbox" name="{esc(name)}" value="{esc(value)}" aria-label="{esc(label)}">'


def form_around(action: str, body: str, text: str) -> str:
    """A form that posts what is ticked inside `body` (HTML already)."""
    return f'<form class="wide" method="post" action="{esc(action)}">{body}<p><button>{esc(text)}</button></p></form>'


def badge(text: Any) -> str:
    """A status word."""
    return f'<span class="badge">{esc(text)}</span>' if text else ""
