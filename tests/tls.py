"""A server on loopback with TLS and the certificate of an authority of one's own."""

import contextlib
import http.server
import os
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "infra" / "certificate.sh"


def make_certificate(folder: Path) -> Path:
    """Write server.pem and server.key for localhost, and ca.pem, which is returned."""
    openssl = shutil.which("openssl")
    if not openssl or b"LibreSSL" in subprocess.check_output([openssl, "version"]):
        pytest.skip("no OpenSSL to make a certificate with")
    given = {**os.environ, "PUBLIC_AUTHORITIES": os.devnull}
    words = [str(SCRIPT), "localhost", str(folder)]
    subprocess.run(words, env=given, check=True, stdout=subprocess.DEVNULL)
    return folder / "ca.pem"


class _MLflow(http.server.BaseHTTPRequestHandler):
    """Healthy, and open to everybody."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"OK" if self.path == "/health" else b"3.17.2")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serve_tls(folder: Path) -> Iterator[str]:
    """Address of what looks like an MLflow server, with the certificate of a folder."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _MLflow) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://localhost:{server.server_address[1]}"
        server.shutdown()
