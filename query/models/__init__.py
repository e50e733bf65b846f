"""What bodies and replies of the REST services look like, a module for each service: types, and OpenAPI's schemas.

They describe; nobody validates with them, for what a body may be is the contract's to say (query/requests.py). That
replies keep to them is what mypy checks where a handler builds one, and every test that asks a running daemon.
"""

from pydantic import ConfigDict

# Nothing else is in it: a key that nobody described is a fault of the description.
CLOSED = ConfigDict(extra="forbid")
# Keys that are not known may come along, and are ignored or shown as they are.
OPEN = ConfigDict(extra="allow")
