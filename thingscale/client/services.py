"""The services whose objects are made, read, changed and deleted: one small class each."""

import builtins
from collections.abc import Iterator, Sequence
from typing import Any, cast
from urllib.parse import quote

from thingscale.client import shapes
from thingscale.client.transport import Transport


def path(*parts: object) -> str:
    """A path of the API out of names, which may have any characters."""
    return "/v2/" + "/".join(quote(str(part), safe="") for part in parts)


class Devices:
    """``client.devices``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, **only: Any) -> Iterator[shapes.Device]:
        """All devices, or those that ``search``, ``enabled``, ``mapped_ch`` … leave; ``limit`` at a time."""
        flags = {
            name: str(value).lower() if isinstance(value, bool) else value for name, value in only.items()
        }
        return cast("Iterator[shapes.Device]", self._transport.pages("/v2/device", flags))

    def get(self, device_id: str) -> shapes.Device:
        return cast("shapes.Device", self._transport.json("GET", path("device", device_id))[0])

    def add(self, device_id: str, **fields: Any) -> shapes.Device:
        """``mapped_ch``, ``enabled``, ``description`` and so on, as in docs/api.md."""
        return cast("shapes.Device", self._transport.json("POST", path("device", device_id), json=fields))

    def update(self, device_id: str, **fields: Any) -> shapes.Device:
        return cast("shapes.Device", self._transport.json("PUT", path("device", device_id), json=fields))

    def delete(self, device_id: str) -> None:
        self._transport.json("DELETE", path("device", device_id), is_safe=False)

    def load(
        self, table: bytes, *, on_existing: str = "error", is_atomic: bool = False
    ) -> Sequence[dict[str, Any]]:
        """Register or change the devices of a table in CSV, as in docs/api.md; what became of each of its lines."""
        asked = {"on_existing": on_existing, "atomic": str(is_atomic).lower()}
        headers = {"Content-Type": "text/csv"}
        reply = self._transport.json("POST", "/v2/device", params=asked, content=table, headers=headers)
        report: Sequence[dict[str, Any]] = reply["devices"]
        return report


class Channels:
    """``client.channels``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, *, with_tags: bool = False) -> list[shapes.Channel]:
        headers = {"X-WITHTAG": "true"} if with_tags else {}
        return cast("list[shapes.Channel]", self._transport.json("GET", "/v2/channel", headers=headers))

    def get(self, number: int) -> shapes.Channel:
        return cast("shapes.Channel", self._transport.json("GET", path("channel", number))[0])

    def add(self, number: int, name: str | None = None) -> shapes.Channel:
        fields = {} if name is None else {"channel_name": name}
        return cast("shapes.Channel", self._transport.json("POST", path("channel", number), json=fields))

    def rename(self, number: int, name: str) -> shapes.Channel:
        asked = {"channel_name": name}
        return cast("shapes.Channel", self._transport.json("PUT", path("channel", number), json=asked))

    def delete(self, number: int, tag: str | None = None, *, keep_data: bool = False) -> None:
        """With all its datapoints, also when it was archived; or only one tag, with all of its.

        ``keep_data`` archives it: its datapoints stay, in published files, and its number stays taken.
        """
        headers = {} if tag is None else {"X-TAGNAME": tag.encode()}
        asked = {"data": "keep" if keep_data else "delete"}
        target = path("channel", number)
        self._transport.json("DELETE", target, params=asked, headers=headers, is_safe=False)

    def archived(self) -> builtins.list[shapes.ArchivedChannel]:
        """Those that were deleted with their data kept."""
        found = self._transport.json("GET", "/v2/channel", params={"state": "archived"})
        return cast("builtins.list[shapes.ArchivedChannel]", found)

    def restore(self, number: int) -> shapes.Channel:
        """An archived channel is a channel again, with all its datapoints."""
        return cast(
            "shapes.Channel", self._transport.json("PUT", path("channel", number), json={"state": "active"})
        )

    def streams(self, number: int) -> Sequence[shapes.Stream]:
        return cast("Sequence[shapes.Stream]", self._transport.json("GET", path("channel", number, "stream")))

    def describe(self, number: int, stream: str, **texts: str) -> shapes.Stream:
        """``label``, ``unit``, ``description``."""
        target = path("channel", number, "stream", stream)
        return cast("shapes.Stream", self._transport.json("PUT", target, json=texts))

    def forget(self, number: int, stream: str) -> None:
        """Take back what was said of a stream; its data stay."""
        self._transport.json("DELETE", path("channel", number, "stream", stream), is_safe=False)


class Events:
    """``client.events``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> list[shapes.Event]:
        return cast("list[shapes.Event]", self._transport.json("GET", "/v2/event"))

    def get(self, event_id: int) -> shapes.Event:
        return cast("shapes.Event", self._transport.json("GET", path("event", event_id))[0])

    def add(self, **fields: Any) -> shapes.Event:
        return cast("shapes.Event", self._transport.json("POST", "/v2/event", json=fields))

    def update(self, event_id: int, **fields: Any) -> shapes.Event:
        return cast("shapes.Event", self._transport.json("PUT", path("event", event_id), json=fields))

    def delete(self, event_id: int) -> None:
        self._transport.json("DELETE", path("event", event_id), is_safe=False)


class Sessions:
    """``client.sessions``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> list[shapes.Session]:
        return cast("list[shapes.Session]", self._transport.json("GET", "/v2/session"))

    def disconnect(self, client_id: str) -> None:
        self._transport.json("DELETE", path("session", client_id), is_safe=False)


class Account:
    """``client.user``: the account that the token belongs to."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self) -> shapes.User:
        return cast("shapes.User", self._transport.json("GET", "/v2/user")[0])

    def update(self, **fields: str) -> shapes.User:
        return cast("shapes.User", self._transport.json("PUT", "/v2/user", json=fields))

    def rotate(self, which: str, overlap_s: int = 86_400) -> shapes.Rotated:
        """A new ``api_token`` or ``device_token``; this client goes on with the one that it has."""
        asked = {"which": which, "overlap_s": overlap_s}
        return cast("shapes.Rotated", self._transport.json("POST", "/v2/user/token", json=asked))

    def audit(self, limit: int = 100) -> Iterator[shapes.AuditRow]:
        """What was changed, the newest first, ``limit`` at a time."""
        return cast("Iterator[shapes.AuditRow]", self._transport.pages("/v2/user/audit", {"limit": limit}))


class Admin:
    """``client.admin``: all accounts, for a client with an admin's token."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def users(self, **only: Any) -> Iterator[shapes.Listed]:
        flags = {
            name: str(value).lower() if isinstance(value, bool) else value for name, value in only.items()
        }
        return cast("Iterator[shapes.Listed]", self._transport.pages("/v2/admin/users", flags))

    def get(self, user_id: str) -> shapes.Account:
        return cast("shapes.Account", self._transport.json("GET", path("admin", "users", user_id))[0])

    def add(self, **fields: Any) -> shapes.Account:
        """Texts, ``enabled``, ``quotas``; the tokens are in the reply."""
        return cast("shapes.Account", self._transport.json("POST", "/v2/admin/users", json=fields))

    def update(self, user_id: str, **fields: Any) -> shapes.Account:
        target = path("admin", "users", user_id)
        return cast("shapes.Account", self._transport.json("PUT", target, json=fields))

    def delete(self, user_id: str, *, with_data: bool = False) -> None:
        asked = {"data": "delete" if with_data else "keep"}
        self._transport.json("DELETE", path("admin", "users", user_id), params=asked, is_safe=False)

    def rotate(self, user_id: str, which: str, overlap_s: int = 86_400) -> shapes.Rotated:
        """A new ``api_token`` or ``device_token`` for somebody."""
        asked = {"which": which, "overlap_s": overlap_s}
        target = path("admin", "users", user_id, "token")
        return cast("shapes.Rotated", self._transport.json("POST", target, json=asked))

    def audit(self, user_id: str | None = None, limit: int = 100) -> Iterator[shapes.AuditRow]:
        asked = {"limit": limit} | ({} if user_id is None else {"user": user_id})
        return cast("Iterator[shapes.AuditRow]", self._transport.pages("/v2/admin/audit", asked))
