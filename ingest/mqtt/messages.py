"""What a client publishes, now or as its will, as a message for others."""

from typing import Final

from ingest.mqtt import packets
from ingest.mqtt.packets import Property
from storage.notes import Message

# Properties of a PUBLISH that go on to subscribers unchanged [MQTT-3.3.2-4] and so on.
FORWARDED: Final = frozenset(
    {
        Property.PAYLOAD_FORMAT_INDICATOR,
        Property.CONTENT_TYPE,
        Property.RESPONSE_TOPIC,
        Property.CORRELATION_DATA,
        Property.USER_PROPERTY,
    }
)


def message_of(
    topic: bytes, payload: bytes, qos: int, retain: bool, properties: packets.Properties, at_us: int
) -> Message:
    """Properties that are not the subscribers' business are left out; the expiry counts from now."""
    forwarded = b""
    expires_at_us = 0
    if properties:
        kept = {name: value for name, value in properties.items() if name in FORWARDED}
        forwarded = packets.encode_properties(kept) if kept else b""
        expiry_s = properties.get(Property.MESSAGE_EXPIRY_INTERVAL)
        if expiry_s is not None:
            expires_at_us = at_us + expiry_s * 1_000_000
    return Message(topic, payload, qos, retain, forwarded, expires_at_us, at_us)
