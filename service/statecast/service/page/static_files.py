"""The files of the page, read once, with the headers that keep anything else out of it."""

import hashlib
from collections.abc import Mapping
from http import HTTPStatus
from importlib.resources import files

from statecast.service.metrics_endpoint import Answer

TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
SAFETY = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
"""Headers of every answer. No other site may frame the page, and nothing inline or from another site runs in it."""


def read_files() -> Mapping[str, Answer]:
    """Return the answers with the page's files, by name; "" is the page itself."""
    answers = {}
    for file in files(__package__).joinpath("static").iterdir():
        body = file.read_bytes()
        headers = {
            "Content-Type": TYPES[file.name.rpartition(".")[2]],
            "Cache-Control": "no-cache",
            "ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"',
        }
        answers[file.name] = Answer(HTTPStatus.OK, body, SAFETY | headers)
    answers[""] = answers.pop("index.html")
    return answers
