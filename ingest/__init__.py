"""The devices' side: listeners, the reactor, wire formats, the MQTT session, admission."""
