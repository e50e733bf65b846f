"""MQTT 3.1 and 3.1.1 beside the fast lane: packets, the session machine, and its driver."""
