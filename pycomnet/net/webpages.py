"""The HTTP response headers of status pages, which protect their browsers."""

from __future__ import annotations

#: Headers of every response: no caching, no guessing of content types, no other sites.
HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
#: The policy of a status page: it loads only its own parts, and talks only to its own server.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
