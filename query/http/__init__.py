"""The people's HTTP/1.1 server: trio below, h11 inside, ASGI above, RFC 9110 and 9112 in front."""

from query.http.options import HttpOptions
from query.http.server import HttpServer, HttpStatistics

__all__ = ["HttpOptions", "HttpServer", "HttpStatistics"]
