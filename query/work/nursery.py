"""Where workers come from: a process that has loaded what they need and forks one of them for each job.

Loading takes a second and 150 MB; a fork takes milliseconds, and what was loaded is shared. This process has one
thread, no database and nothing of the daemon's: no environment, no descriptors. It sees its children end and says how;
it ends them on demand, which only a parent can do without a doubt about whom a number means; and when the daemon is
gone, it and they go too.

    daemon -> nursery    one byte with the worker's socket: fork;   8 bytes: end this one
    nursery -> daemon    pid, status (wait(2)), 8 bytes each; status -1: it has begun
"""

import gc
import importlib
import os
import selectors
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from query.work import worker
from query.work.limits import NICENESS

NOTICE: Final = struct.Struct("=qq")
PID: Final = struct.Struct("=q")
BEGAN: Final = -1


def main(descriptor: int, modules: Sequence[str]) -> None:
    """Until the daemon closes its end. The modules are those that jobs need."""
    stand_back()
    port = socket.socket(fileno=descriptor)
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)  # sent to all processes of a service: the daemon tells us when
    for name in modules:
        importlib.import_module(name)
    worker.read_zone("UTC")
    gc.freeze()
    children: set[int] = set()
    with selectors.DefaultSelector() as ready:
        ready.register(port, selectors.EVENT_READ)
        ready.register(woken, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj is woken:
                    woken.recv(4_096)
                    _reap(port, children)
                elif not _obey(port, (port, woken, wake), children):
                    for pid in children:
                        os.kill(pid, signal.SIGKILL)
                    return


def stand_back() -> None:
    """This process and its workers share the processor as a group, behind the daemon's (sched(7), autogroups).

    As single processes of one group with the daemon they kept the kernel's own threads waiting, which begin the disk's
    work: a group that is never idle is left only when its slice is over, and the daemon's syncs took 8 ms.
    """
    os.setsid()
    with suppress(OSError):  # a kernel without, or with groups that somebody else has made
        Path("/proc/self/autogroup").write_text(str(NICENESS), "ascii")


def _obey(port: socket.socket, own: tuple[socket.socket, ...], children: set[int]) -> bool:
    """One order; False when the daemon is gone."""
    try:
        data, descriptors, _, _ = socket.recv_fds(port, PID.size, 1)
    except OSError:
        return False
    if not data:
        return False
    if not descriptors:
        pid = PID.unpack(data)[0]
        if pid in children:
            os.kill(pid, signal.SIGKILL)
        return True
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        for sock in own:
            sock.close()
        worker.run(socket.socket(fileno=descriptors[0]))
    os.close(descriptors[0])
    children.add(pid)
    _say(port, pid, BEGAN)
    return True


def _reap(port: socket.socket, children: set[int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        children.discard(pid)
        _say(port, pid, status)


def _say(port: socket.socket, pid: int, status: int) -> None:
    try:
        port.send(NOTICE.pack(pid, status))
    except OSError:
        return  # the daemon is gone; the next read says so


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
