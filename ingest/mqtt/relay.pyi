from collections.abc import Callable

from ingest.admission import Admission
from ingest.mqtt.delivery import Deliveries
from ingest.mqtt.notebook import Notebook
from ingest.mqtt.options import BrokerOptions
from ingest.mqtt.sessions import Connection, Namespace

class Relay:
    """The commonest packets of clients among themselves; the reactor asks it before the door.

    Args:
        connections: the door's, by slot.
        deliveries: where messages end.
        notebook: what is put off there goes before everything else.
        admission: where a reading that has listeners is stored.
        may_use: whether a user's clients may publish to a topic.
        options: limits.
    """

    def __init__(
        self,
        connections: dict[int, Connection],
        deliveries: Deliveries,
        notebook: Notebook,
        admission: Admission,
        may_use: Callable[[Namespace, bytes], bool],
        options: BrokerOptions,
    ) -> None: ...
