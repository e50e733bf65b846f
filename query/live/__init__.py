"""Live: what has become durable, to whoever is watching, a moment later (Server-Sent Events)."""

from query.live.hub import Hub, LiveOptions, LiveStatistics
from query.live.view import Watch

__all__ = ["Hub", "LiveOptions", "LiveStatistics", "Watch"]
