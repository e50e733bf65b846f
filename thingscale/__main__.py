"""``python -m thingscale`` is the ``thingscale`` command."""

from thingscale.cli import main

main()
