"""Connected MQTT clients as the REST services see them: real sockets, the reactor turned by hand."""

from ingest.durability import Durability
from query.ports import LiveSession
from tests.twins.mqtt_packets import connect
from tests.twins.mqtt_sides import NOW, LaneSide
from tests.twins.storing import TOKEN, USER
from thingscale.clients import Clients


def test_a_connected_client_is_listed_and_can_be_disconnected() -> None:
    side = LaneSide()
    durability = Durability(side.keeper.journal, side.reactor, lambda: NOW)
    tokens = {USER: TOKEN.encode()}
    clients = Clients(
        side.door.broker, durability, lambda user_id: tokens.get(user_id, b""), side.reactor.peer, lambda: NOW
    )
    found: list[list[LiveSession]] = []
    settle = side.settle

    def settle_and_look() -> None:
        settle()
        found.append(clients.live(USER))
        if len(found) == 2:
            assert clients.live("nobody") == []
            assert not clients.kick(USER, "nobody")
            assert not clients.kick("nobody", "b")
            assert clients.kick(USER, "b")
            settle()
            found.append(clients.live(USER))

    side.settle = settle_and_look  # type: ignore[method-assign]
    outcome = side.run([(0, connect(b"a")), (1, connect(b"b", flags=0xC0, protocol=b"\0\6MQIsdp\3"))])
    first = LiveSession("a", "127.0.0.1", True, 4, 60, NOW[1])
    second = LiveSession("b", "127.0.0.1", False, 3, 60, NOW[1])
    assert found == [[first], [first, second], [first]]
    assert outcome.is_closed == {0: False, 1: True}
