"""A door with a broker, as the daemon makes them, for tests."""

from ingest.admission import Admission
from ingest.mqtt.broker import Broker
from ingest.mqtt.door import MqttDoor
from ingest.mqtt.notebook import Notebook
from ingest.mqtt.options import BrokerOptions
from storage.journal import Journal

NO_LIMITS = BrokerOptions()


def make_door(admission: Admission, journal: Journal, options: BrokerOptions = NO_LIMITS) -> MqttDoor:
    return MqttDoor(admission, journal, Broker(options, Notebook(journal, room_max=256)))
