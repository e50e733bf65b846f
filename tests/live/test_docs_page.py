"""/docs: a page that needs nothing from elsewhere, looked at with a real browser where there is one."""

import http.client
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from query.services.docs import POLICY
from tests.daemon import Daemon


def get(daemon: Daemon, path: str) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port("http"), timeout=30)
    connection.request("GET", path)
    reply = connection.getresponse()
    text = reply.read().decode()
    connection.close()
    return reply.status, {name.lower(): value for name, value in reply.getheaders()}, text


def test_the_page_and_all_its_parts_are_this_servers_own(shared_daemon: Daemon) -> None:
    status, headers, page = get(shared_daemon, "/docs")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert headers["content-security-policy"] == POLICY
    assert "default-src 'self'" in POLICY
    parts = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(parts) >= 5
    for part in parts:
        assert part == "data:," or part.startswith("/")
        if part.startswith("/docs/"):
            status, headers, text = get(shared_daemon, part)
            assert status == 200, part
            assert headers["content-type"].startswith(
                "text/css" if part.endswith("css") else "text/javascript"
            )
            assert text
    assert get(shared_daemon, "/docs/nothing")[0] == 404
    assert get(shared_daemon, "/docs/..%2f__init__.py")[0] == 404


def test_a_browser_shows_the_operations(shared_daemon: Daemon, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("chromium is not installed")
    shown = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=15000",
            f"--user-data-dir={tmp_path}", "--enable-logging=stderr", "--dump-dom",
            f"http://127.0.0.1:{shared_daemon.port('http')}/docs#/Stream/get_stream",
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "Datapoints of a channel" in shown.stdout
    assert "X-ENDTIME" in shown.stdout
    assert "Content Security Policy" not in shown.stderr
