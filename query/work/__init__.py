"""Work that must not hold up the daemon, or may fail: each job in a process of its own, forked from one that is warm.

    query/services -> Workers (workers.py) -> nursery process (nursery.py) -> a worker for each job (worker.py)

What a job is, is said by the daemon and pickled (jobs.py). What comes back is frames of bytes and JSON (wire.py), so
nothing that a worker says is believed further than that: the one that runs SQL of strangers is one of them.
"""
