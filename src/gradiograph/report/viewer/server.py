"""The viewer's server: loopback only, behind a token in the link."""

from __future__ import annotations

import json
import secrets
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from gradiograph.log import Log, require_kept
from gradiograph.report.results import Results
from gradiograph.report.viewer.films import exhibits, picture

_PAGES = {
    "": ("page.html", "text/html"),
    "page.js": ("page.js", "text/javascript"),
    "page.css": ("page.css", "text/css"),
}
_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'"


class Viewer:
    """Serves one run to this machine's own browser until it is closed.

    Args:
        directory: The run's folder.
        port: Of the loopback address; 0 takes a free one.

    Raises:
        LogProblem: the folder holds no run, nothing was scored yet, or the run was purged.
        OSError: the port is taken.
    """

    def __init__(self, directory: Path | str, port: int = 0) -> None:
        self._log = Log.open(directory)
        require_kept(self._log)
        self._results = Results.read(self._log)
        self._token = secrets.token_urlsafe(24)
        viewer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, kind, content = viewer.answer(self.path, self.headers.get("Host", ""))
                self.send_response(status)
                for name, value in (
                    ("Content-Type", f"{kind}; charset=utf-8" if kind.startswith("text") else kind),
                    ("Content-Length", str(len(content))),
                    ("Content-Security-Policy", _POLICY),
                    ("Cache-Control", "no-store"),
                    ("Referrer-Policy", "no-referrer"),
                    ("X-Content-Type-Options", "nosniff"),
                ):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Says nothing: a request names a film."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)

    @property
    def link(self) -> str:
        """What to open; whoever has it, on this machine, sees the run."""
        return f"http://127.0.0.1:{self._server.server_port}/{self._token}/"

    def serve(self) -> None:
        """Answer until `close`."""
        self._server.serve_forever()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, host: str) -> tuple[HTTPStatus, str, bytes]:
        """The response to a request: its status, type and content.

        Args:
            path: What was asked for.
            host: The name under which; any other than the loopback's own is a page elsewhere that asks.
        """
        own = {f"{name}:{self._server.server_port}" for name in ("127.0.0.1", "localhost")}
        token, _, rest = urlsplit(path).path.lstrip("/").partition("/")
        if host not in own or not secrets.compare_digest(token.encode(), self._token.encode()):
            return _refused()
        if rest in _PAGES:
            name, kind = _PAGES[rest]
            return HTTPStatus.OK, kind, (files("gradiograph.report.viewer") / name).read_bytes()
        if rest == "films.json":
            return HTTPStatus.OK, "application/json", json.dumps(self._listing()).encode()
        parts = [unquote(part) for part in rest.split("/")]
        if len(parts) == 4 and parts[0] == "picture":
            found = picture(self._log, self._results, *parts[1:])
            if found is not None:
                return HTTPStatus.OK, "image/png", found
        return _refused()

    def _listing(self) -> dict[str, Any]:
        found = exhibits(self._results)
        return {
            "name": self._results.header["name"],
            "entries": found.entries,
            "metrics": found.metrics,
            "originals": found.originals,
        }


def _refused() -> tuple[HTTPStatus, str, bytes]:
    return HTTPStatus.NOT_FOUND, "text/plain", b"Nothing here."
