"""The commands of the command line, a module for each noun.

Those that concern one account's devices, channels, events and readings speak to the REST interface (``server``): to a
daemon that runs somewhere, or to one of their own on a data directory that nobody uses. Accounts and admins are kept in
the registry, which the daemon and a command may have open at the same time.
"""
