"""A real daemon process for tests: started on port 0, talked to over loopback, stopped or killed."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.described import Document

_documents: list[Document] = []
# Longer answers are lists whose rows are all alike; a check of each would take longer than the tests.
CHECKED_BYTES_MAX = 1 << 18
READY_S = 30
STOP_S = 30


class Daemon:
    """``thingscale serve`` on a data directory.

    Limits on rates are off unless the environment says otherwise, so that tests are not slowed down by them.
    """

    def __init__(self, data: Path, *arguments: str, **environment: str) -> None:
        self.data = data
        self.arguments = arguments
        self.environment = {
            "THINGSCALE_LIMITS_CONNECTOR_PER_S": "0",
            "THINGSCALE_LIMITS_REST_PER_S": "0",
            **environment,
        }
        self.log = data.parent / f"{data.name}.stderr"
        self.process: subprocess.Popen[str]
        self.ready: dict[str, Any] = {}
        self.user: dict[str, Any] = {}

    def start(self) -> Self:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "thingscale", "serve", "--data", str(self.data),
                    "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", *self.arguments,
                ],
                stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, **self.environment},
            )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(STOP_S)
            raise AssertionError(f"the daemon did not start:\n{self.log.read_text()}")
        self.ready = json.loads(line)
        assert self.ready["ready"] is True
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            if kind is None:
                assert self.stop() == 0, self.log.read_text()[-3000:]
            else:
                self.kill()
                return
        self.process.communicate()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(STOP_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def restart(self) -> None:
        """kill -9, then start again on the same data."""
        self.kill()
        self.start()

    def port(self, which: str) -> int:
        return int(self.ready[which].rpartition(":")[2])

    def run(self, *arguments: str) -> str:
        """A ``thingscale`` command on this data directory; its stdout."""
        command = [sys.executable, "-m", "thingscale", *arguments, "--data", str(self.data)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, env={**os.environ, **self.environment}
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def add_user(self, *arguments: str) -> dict[str, Any]:
        """A new user, remembered as the one whose tokens the calls below use."""
        self.user = json.loads(self.run("user", "add", "--json", *arguments))
        return self.user

    def request(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        """One REST call with the user's API token: status, parsed JSON (or text), headers; held against OpenAPI."""
        document = self._document()
        connection = http.client.HTTPConnection("127.0.0.1", self.port("http"), timeout=30)
        data = None if body is None else body if isinstance(body, str | bytes) else json.dumps(body)
        sent = {"X-APITOKEN": self.user.get("api_token", ""), **(headers or {})}
        connection.request(method, path, data, sent)
        reply = connection.getresponse()
        text = reply.read().decode()
        connection.close()
        found = {name.lower(): value for name, value in reply.getheaders()}
        is_json = found.get("content-type", "").startswith("application/json")
        value = json.loads(text) if is_json and text else text
        if len(text) <= CHECKED_BYTES_MAX:
            document.check(method, path, reply.status, found, value)
        return reply.status, value, found

    def _document(self) -> Document:
        """What the daemon says of itself; every daemon of a test session says the same."""
        if not _documents:
            connection = http.client.HTTPConnection("127.0.0.1", self.port("http"), timeout=30)
            connection.request("GET", "/openapi.json")
            _documents.append(Document(json.loads(connection.getresponse().read())))
            connection.close()
        return _documents[0]

    def add_device(self, device_id: str, channel: int | None = 1) -> None:
        """A device that is enabled and mapped; the channel is made if it is new."""
        if channel is not None:
            self.request("POST", f"/v2/channel/{channel}")
        status, reply, _ = self.request(
            "POST", f"/v2/device/{device_id}", {"enabled": True, "mapped_ch": channel}
        )
        assert status == 201, reply

    def post(
        self, device_id: str, payload: bytes | str, path: str = "/post_v2/", **headers: str
    ) -> tuple[int, str]:
        """One connector post: status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port("http"), timeout=30)
        token = self.user.get("device_token", "")
        connection.request(
            "POST", path, payload, {"X-DEVICETOKEN": token, "X-DEVICEID": device_id, **headers}
        )
        reply = connection.getresponse()
        result = reply.status, reply.read().decode()
        connection.close()
        return result

    def stream(self, channel: int = 1, **headers: str) -> list[dict[str, Any]]:
        """The channel's entries, oldest first, unless the headers ask for something else."""
        asked = {
            "X-ENDTIME": "2999-01-01 00:00",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        status, reply, _ = self.request("GET", f"/v2/stream/{channel}", headers=asked)
        assert status == 200, reply
        entries: list[dict[str, Any]] = reply["stream"]
        return entries

    def metric(self, name: str) -> float:
        """One sample of /metrics; labels are part of the name."""
        for line in self.request("GET", "/metrics")[1].splitlines():
            sample, _, value = line.rpartition(" ")
            if sample == name:
                return float(value)
        raise AssertionError(f"there is no metric {name}")

    def wait_until(self, condition: Any, limit_s: float = 10.0) -> None:
        end = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < end, (
                f"it never came to be; the daemon said:\n{self.log.read_text()[-3000:]}"
            )
            time.sleep(0.02)


def workers(daemon: Daemon) -> list[int]:
    """Processes that run queries: grandchildren of the daemon."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(path.parent.name))
    return [pid for nursery in children.get(daemon.process.pid, []) for pid in children.get(nursery, [])]
