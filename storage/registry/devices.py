"""Devices: provisioning, mapping, the state that they last sent.

Ids of devices are never used again, because they stand in the log and in files; a deleted device keeps its row, and the
same device id comes back to it.
"""

from dataclasses import dataclass
from typing import Any, Final

from storage.journal import State
from storage.registry.channels import Channels
from storage.registry.fields import (
    DeviceLimitError,
    FieldError,
    InUseError,
    UnknownError,
    check_flag,
    check_names,
    check_texts,
    is_text,
)
from storage.registry.remembered import remembered

DEVICE_TEXTS: Final = ("description", "device_type", "location", "manufacturer")


@dataclass(frozen=True, slots=True)
class Device:
    """A device. ``channel`` is the channel's id, ``mapped_ch`` its number; both None while it is unmapped."""

    id: int
    user_id: str
    device_id: str
    description: str
    enabled: bool
    channel: int | None
    mapped_ch: int | None
    device_type: str
    location: str
    manufacturer: str
    activate_at_us: int
    state: bytes | None
    state_at_us: int | None


DEVICE_COLUMNS: Final = (
    "device.id, device.user_id, device_id, description, enabled, channel, channel.number, device_type, location, "
    "manufacturer, activate_at_us, state, state_at_us"
)
DEVICE_FROM: Final = "FROM device LEFT JOIN channel ON channel.id = device.channel"


# What a list of devices can be sorted by; never null.
DEVICE_SORTS: Final = {
    "device_id": "device_id",
    "description": "description",
    "device_type": "device_type",
    "location": "location",
    "activate_at": "activate_at_us",
    "last_state": "COALESCE(state_at_us, 0)",
    "mapped_ch": "COALESCE(channel.number, -1)",
}


@dataclass(frozen=True, slots=True)
class DeviceFilter:
    """Which devices; None is no condition.

    Attributes:
        search: in the id or the description, capitals or not.
        mapped_ch: a channel's number; negative for those that are mapped to none.
    """

    search: str = ""
    enabled: bool | None = None
    mapped_ch: int | None = None
    device_type: str | None = None
    location: str | None = None
    manufacturer: str | None = None

    @staticmethod
    def sorted_by(device: Device, sort: str) -> Any:
        """What the device is sorted by, as ``after`` takes it."""
        match sort:
            case "activate_at":
                return device.activate_at_us
            case "last_state":
                return device.state_at_us or 0
            case "mapped_ch":
                return -1 if device.mapped_ch is None else device.mapped_ch
            case _:
                return getattr(device, sort)


def audited(device: Device) -> dict[str, Any]:
    """What the audit log says of a device: what people set."""
    return {name: getattr(device, name) for name in ("enabled", "mapped_ch", *DEVICE_TEXTS)}


class Devices(Channels):
    """The registry's devices."""

    def _devices(self, where: str, *parameters: object) -> list[Device]:
        rows = self._database.execute(f"SELECT {DEVICE_COLUMNS} {DEVICE_FROM} WHERE {where}", parameters)
        found: list[list[Any]] = [[*row[:4], bool(row[4]), *row[5:]] for row in rows]
        return [Device(*fields) for fields in found]

    @remembered
    def device(self, user_id: str, device_id: str) -> Device | None:
        if not is_text(device_id):
            return None
        found = self._devices(
            "device.user_id = ? AND device_id = ? AND device.deleted_at_us IS NULL", user_id, device_id
        )
        return found[0] if found else None

    def _known_device(self, user_id: str, device_id: str) -> Device:
        device = self.device(user_id, device_id)
        if device is None:
            raise UnknownError(f"there is no device {device_id}")
        return device

    def devices(self, user_id: str) -> list[Device]:
        return self._devices(
            "device.user_id = ? AND device.deleted_at_us IS NULL ORDER BY device_id", user_id
        )

    def find_devices(
        self,
        user_id: str,
        asked: "DeviceFilter",
        limit: int,
        *,
        sort: str = "device_id",
        descending: bool = False,
        after: tuple[Any, str] | None = None,
    ) -> list[Device]:
        """A page of devices that pass a filter.

        Args:
            user_id: whose.
            asked: the filter.
            limit: at most so many.
            sort: a key of DEVICE_SORTS; equal ones are in order of device_id.
            descending: the other way round.
            after: the last device of the page before: what it was sorted by, and its id.
        """
        key, way = DEVICE_SORTS[sort], "DESC" if descending else "ASC"
        parts = ["device.user_id = ?", "device.deleted_at_us IS NULL"]
        parameters: list[object] = [user_id]
        for name in ("device_type", "location", "manufacturer", "enabled"):
            if getattr(asked, name) is not None:
                parts.append(f"{name} = ?")
                parameters.append(getattr(asked, name))
        if asked.mapped_ch is not None:
            parts.append("channel.number IS ?")
            parameters.append(None if asked.mapped_ch < 0 else asked.mapped_ch)
        if asked.search:
            parts.append("instr(lower(device_id || x'0a' || description), lower(?)) > 0")
            parameters.append(asked.search)
        if after is not None:
            parts.append(f"({key}, device_id) {'<' if descending else '>'} (?, ?)")
            parameters += after
        if not all(is_text(value) for value in parameters if isinstance(value, str)):
            return []
        where = f"{' AND '.join(parts)} ORDER BY {key} {way}, device_id {way} LIMIT ?"
        return self._devices(where, *parameters, limit)

    def device_name(self, device: int) -> str:
        """The device_id of a registry id, deleted or not. Raises UnknownError."""
        name = self._value("SELECT device_id FROM device WHERE id = ?", device)
        if name is None:
            raise UnknownError(f"there is no device with the id {device}")
        return str(name)

    @remembered
    def device_by_name(self, user_id: str, device_id: str) -> int | None:
        """The registry id that this device_id has or had; what a deleted device sent is still there."""
        if not is_text(device_id):
            return None
        number = self._value("SELECT id FROM device WHERE user_id = ? AND device_id = ?", user_id, device_id)
        return None if number is None else int(number)

    def add_device(self, user_id: str, device_id: str, at_us: int, /, **fields: Any) -> Device:
        """Raises InUseError, DeviceLimitError, FieldError."""
        if not is_text(device_id):
            raise FieldError("device_id: not Unicode text")
        self._check_device(fields)
        if self.device(user_id, device_id) is None:
            self._check_device_limit(user_id)  # costs nothing: devices beyond it may come back all the time
        with self.transaction():
            if self.device(user_id, device_id) is not None:
                raise InUseError(f"device {device_id} exists")
            self._check_device_limit(user_id)
            self._database.execute(
                "INSERT INTO device (user_id, device_id, description, enabled, device_type, location, manufacturer,"
                " activate_at_us) VALUES (?, ?, '', 0, '', '', '', ?)"
                " ON CONFLICT (user_id, device_id) DO UPDATE SET description = '', enabled = 0, channel = NULL,"
                " device_type = '', location = '', manufacturer = '', activate_at_us = excluded.activate_at_us,"
                " state = NULL, state_at_us = NULL, deleted_at_us = NULL",
                (user_id, device_id, at_us),
            )
            self._counts["device", user_id] += 1
            self._set_device(user_id, device_id, fields)
            device = self._known_device(user_id, device_id)
            self._audit("device.add", user_id, device_id, None, audited(device))
        return device

    def _check_device_limit(self, user_id: str) -> None:
        limit = self._known_user(user_id).quotas.devices
        limit = self.limits.devices_per_user_max if limit is None else limit
        count = self.count_of("device", user_id)
        if count >= limit:
            raise DeviceLimitError(f"the user has {count} devices, and the limit is {limit}")

    def provision_device(self, user_id: str, device_id: str, at_us: int) -> Device:
        """What the connectors do with a device that nobody knows: registered, not enabled, not mapped."""
        return self.add_device(user_id, device_id, at_us)

    def update_device(self, user_id: str, device_id: str, /, **fields: Any) -> Device:
        """Change fields; ``channel`` is a channel's id or None. Raises UnknownError, FieldError."""
        self._check_device(fields)
        with self.transaction():
            before = self._known_device(user_id, device_id)
            self._set_device(user_id, device_id, fields)
            device = self._known_device(user_id, device_id)
            self._audit("device.update", user_id, device_id, audited(before), audited(device))
        return device

    def _set_device(self, user_id: str, device_id: str, fields: dict[str, Any]) -> None:
        self._check_channel(user_id, fields.get("channel"))
        for name, value in fields.items():
            self._database.execute(
                f"UPDATE device SET {name} = ? WHERE user_id = ? AND device_id = ?",
                (value, user_id, device_id),
            )
        if not fields.keys().isdisjoint({"enabled", "channel"}):
            self._changed()

    def delete_device(self, user_id: str, device_id: str, at_us: int) -> None:
        """Raises UnknownError. What the device sent stays."""
        with self.transaction():
            before = self._known_device(user_id, device_id)
            self._database.execute(
                "UPDATE device SET deleted_at_us = ?, channel = NULL WHERE user_id = ? AND device_id = ?",
                (at_us, user_id, device_id),
            )
            self._counts.pop(("device", user_id), None)
            self._changed()
            self._audit("device.delete", user_id, device_id, audited(before), None)

    @staticmethod
    def _check_device(fields: dict[str, Any]) -> None:
        check_names(fields, (*DEVICE_TEXTS, "enabled", "channel"), "a device")
        check_texts(fields, DEVICE_TEXTS)
        check_flag(fields, "enabled")

    def _check_channel(self, user_id: str, channel: Any) -> None:
        """Refuse what is not the id of one of the user's channels, nor None. Raises FieldError."""
        if channel is None:
            return
        if isinstance(channel, int) and not isinstance(channel, bool) and 0 < channel < 2**63:
            owner = self._value(
                "SELECT user_id FROM channel WHERE id = ? AND deleted_at_us IS NULL AND archived_at_us IS NULL",
                channel,
            )
            if owner == user_id:
                return
        raise FieldError(f"channel: there is no channel with the id {channel!r}")

    def put_states(self, states: list[State]) -> None:
        """Device states out of the log, in its order: the last one stands, also when the wall clock was set back."""
        with self.transaction():
            self._database.executemany(
                "UPDATE device SET state = ?, state_at_us = ? WHERE id = ?",
                ((state.payload, state.at_us, state.device) for state in states),
            )
