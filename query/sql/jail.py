"""The jail: what a process can still do when SQL of a stranger runs in it. Nothing but compute, and read one directory.

DuckDB's own switches are the first fence (worker.py); this is the second, and it holds when the first one has a hole:

    Landlock   no file but those below one directory, and these for reading only; no TCP, no signals to others
    seccomp    no sockets, no new programs or processes, no changes to files' modes, to limits, to the kernel
    limits     no bytes written to files; and those of every worker (query/work/limits.py): memory, address space,
               seconds, a lower priority than the daemon's

A process enters before it parses a word that was typed, and cannot leave. Sources: landlock(7), seccomp(2),
Documentation/userspace-api/landlock.rst and seccomp_filter.rst of Linux.
"""

import ctypes
import errno
import os
import platform
import resource
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LANDLOCK_CREATE_RULESET: Final = 444
LANDLOCK_ADD_RULE: Final = 445
LANDLOCK_RESTRICT_SELF: Final = 446
LANDLOCK_CREATE_RULESET_VERSION: Final = 1
LANDLOCK_RULE_PATH_BENEATH: Final = 1
READ_FILE: Final = 1 << 2
# How many kinds of access to files each version of Landlock knows; all are forbidden but where a rule allows them.
ACCESS_BITS: Final = {1: 13, 2: 14, 3: 15, 4: 15}
ACCESS_BITS_NEWEST: Final = 16
NET_TCP: Final = 0b11  # bind, connect; since version 4
SCOPES: Final = 0b11  # abstract sockets, signals; since version 6

PR_SET_SECCOMP: Final = 22
PR_SET_NO_NEW_PRIVS: Final = 38
SECCOMP_MODE_FILTER: Final = 2
RET_ALLOW: Final = 0x7FFF0000
RET_ERRNO: Final = 0x00050000
CLONE_THREAD: Final = 0x00010000
# Offsets in struct seccomp_data: the number, the machine, and the low halves of the arguments.
NUMBER, MACHINE, FIRST_ARGUMENT, THIRD_ARGUMENT = 0, 4, 16, 32
LOAD, JUMP_IF_EQUAL, JUMP_IF_SET, RETURN = 0x20, 0x15, 0x45, 0x06


@dataclass(frozen=True, slots=True)
class Machine:
    """System calls by number on one kind of processor.

    Attributes:
        audit: its number in seccomp_data.
        denied: answered with EPERM.
        clone, clone3: only new threads; clone3, whose flags a filter cannot see, not at all: glibc goes on with clone.
        prlimit: may be asked, not set.
    """

    audit: int
    denied: tuple[int, ...]
    clone: int
    clone3: int
    prlimit: int


MACHINES: Final = {
    "x86_64": Machine(
        audit=0xC000003E,
        # socket connect bind listen socketpair fork vfork execve kill chmod fchmod chown fchown lchown ptrace
        # pivot_root chroot setrlimit mount umount2 setxattr lsetxattr fsetxattr add_key request_key keyctl fchownat
        # fchmodat unshare utimensat perf_event_open open_by_handle_at setns process_vm_readv process_vm_writev bpf
        # execveat userfaultfd pidfd_send_signal io_uring_setup pidfd_open pidfd_getfd fchmodat2
        denied=(
            41, 42, 49, 50, 53, 57, 58, 59, 62, 90, 91, 92, 93, 94, 101, 155, 161, 160, 165, 166, 188, 189, 190, 248,
            249, 250, 260, 268, 272, 280, 298, 304, 308, 310, 311, 321, 322, 323, 424, 425, 434, 438, 452,
        ),
        clone=56, clone3=435, prlimit=302,
    ),
    "aarch64": Machine(
        audit=0xC00000B7,
        # The same calls; fork, vfork, chmod, chown and lchown do not exist here.
        denied=(
            198, 203, 200, 201, 199, 221, 129, 52, 55, 117, 41, 51, 164, 40, 39, 5, 6, 7, 217, 218, 219, 54, 53, 97, 88,
            241, 265, 268, 270, 271, 280, 281, 282, 424, 425, 434, 438, 452,
        ),
        clone=220, clone3=435, prlimit=261,
    ),
}  # fmt: skip


class NoJailError(Exception):
    """This system cannot build it; the message says what is missing."""


_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        raise NoJailError(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def missing() -> str | None:
    """Why this system cannot build the jail; None if it can."""
    if platform.machine() not in MACHINES:
        return f"no table of system calls for {platform.machine()}"
    version = _libc.syscall(LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_CREATE_RULESET_VERSION)
    if version < 1:
        return f"Landlock: {os.strerror(ctypes.get_errno())}"
    return None


def enter(readable: Sequence[Path]) -> None:
    """No way back. Threads that are made later are inside too; there must be no others yet.

    Args:
        readable: these files, and those below these directories, can still be opened, for reading; what is missing is
            passed over.

    Raises:
        NoJailError: nothing of the system's calls may be used then.
    """
    reason = missing()
    if reason is not None:
        raise NoJailError(reason)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    _checked(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")
    _restrict_files(readable)
    _filter_calls(MACHINES[platform.machine()])


def _restrict_files(readable: Sequence[Path]) -> None:
    version = _libc.syscall(LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_CREATE_RULESET_VERSION)
    access = (1 << ACCESS_BITS.get(version, ACCESS_BITS_NEWEST)) - 1
    attributes = struct.pack("=QQQ", access, NET_TCP if version >= 4 else 0, SCOPES if version >= 6 else 0)
    size = 8 if version < 4 else 16 if version < 6 else 24
    rules = _checked(_libc.syscall(LANDLOCK_CREATE_RULESET, attributes, size, 0), "landlock_create_ruleset")
    try:
        for path in readable:
            _allow(rules, path)
        _checked(_libc.syscall(LANDLOCK_RESTRICT_SELF, rules, 0), "landlock_restrict_self")
    finally:
        os.close(rules)


def _allow(rules: int, path: Path) -> None:
    """The place stays open: a rule is about an inode, and /proc makes new ones as soon as nobody holds the old ones."""
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    rule = struct.pack("=Qi", READ_FILE, place)
    added = _libc.syscall(LANDLOCK_ADD_RULE, rules, LANDLOCK_RULE_PATH_BENEATH, rule, 0)
    _checked(added, "landlock_add_rule")


def program(machine: Machine) -> bytes:
    """The filter as struct sock_filter: each instruction is code, jump if true, jump if false, operand."""
    deny, no_call = RET_ERRNO | errno.EPERM, RET_ERRNO | errno.ENOSYS
    made = [
        (LOAD, 0, 0, MACHINE),
        (JUMP_IF_EQUAL, 1, 0, machine.audit),
        (RETURN, 0, 0, deny),
        (LOAD, 0, 0, NUMBER),
        (JUMP_IF_SET, 0, 1, 0x40000000),  # x32: the same calls under other numbers
        (RETURN, 0, 0, deny),
        (JUMP_IF_EQUAL, 0, 1, machine.clone3),
        (RETURN, 0, 0, no_call),
        (JUMP_IF_EQUAL, 0, 4, machine.clone),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        (JUMP_IF_SET, 1, 0, CLONE_THREAD),
        (RETURN, 0, 0, deny),
        (RETURN, 0, 0, RET_ALLOW),
        (JUMP_IF_EQUAL, 0, 6, machine.prlimit),
        (LOAD, 0, 0, THIRD_ARGUMENT),
        (JUMP_IF_EQUAL, 0, 3, 0),
        (LOAD, 0, 0, THIRD_ARGUMENT + 4),
        (JUMP_IF_EQUAL, 0, 1, 0),
        (RETURN, 0, 0, RET_ALLOW),
        (RETURN, 0, 0, deny),
    ]
    for number in machine.denied:
        made += [(JUMP_IF_EQUAL, 0, 1, number), (RETURN, 0, 0, deny)]
    made.append((RETURN, 0, 0, RET_ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in made)


def _filter_calls(machine: Machine) -> None:
    code = program(machine)
    kept = ctypes.create_string_buffer(code, len(code))
    wanted = struct.pack("@HP", len(code) // 8, ctypes.addressof(kept))
    _checked(_libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, wanted, 0, 0), "PR_SET_SECCOMP")
