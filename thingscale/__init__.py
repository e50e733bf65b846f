"""The front door: command line, configuration, and the daemon's composition root."""
