"""kill -9 at random moments under load: every acknowledged reading is there, once per send, in order."""
