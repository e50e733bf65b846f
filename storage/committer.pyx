"""The committer: one thread that writes and syncs log records, and never holds the GIL while it does.

The reactor's thread hands it one record at a time and goes on. The two sides meet in two eventfds: ``work`` wakes the
committer, ``fileno`` wakes whoever waits for the result, usually the reactor's epoll set. The kernel's read and write
of an eventfd order the memory accesses around them.
"""

import os
import threading
import time

from libc.errno cimport EINTR, EIO, errno as c_errno
from libc.stdint cimport int64_t, uint64_t

cdef extern from "unistd.h" nogil:
    ssize_t c_read "read"(int fd, void* data, size_t size)
    ssize_t c_write "write"(int fd, const void* data, size_t size)
    ssize_t pwrite(int fd, const void* data, size_t size, int64_t offset)
    int fdatasync(int fd)

cdef extern from "time.h" nogil:
    cdef struct timespec:
        int64_t tv_sec
        int64_t tv_nsec
    cdef enum:
        CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec* now)


cdef int64_t monotonic_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec * 1000000000 + now.tv_nsec


cdef class Committer:
    """See the stub."""

    cdef readonly int fileno
    cdef int work
    cdef readonly bint is_busy
    cdef bint is_closing
    cdef object thread, buffer
    cdef int fd
    cdef const unsigned char* data
    cdef size_t size
    cdef int64_t offset, elapsed_ns
    cdef bint sync
    cdef int error

    def __init__(self):
        self.fileno = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.work = os.eventfd(0, os.EFD_CLOEXEC)
        self.thread = threading.Thread(target=self.run, name="committer", daemon=True)
        self.thread.start()

    def run(self):
        with nogil:
            self.loop()

    cdef void loop(self) noexcept nogil:
        cdef uint64_t one = 1, got
        cdef int64_t began
        while True:
            if c_read(self.work, &got, 8) != 8:
                continue
            if self.is_closing:
                return
            began = monotonic_ns()
            self.error = self.commit()
            self.elapsed_ns = monotonic_ns() - began
            while c_write(self.fileno, &one, 8) != 8:
                pass

    cdef int commit(self) noexcept nogil:
        cdef size_t done = 0
        cdef ssize_t wrote
        while done < self.size:
            wrote = pwrite(self.fd, self.data + done, self.size - done, self.offset + <int64_t>done)
            if wrote < 0:
                if c_errno == EINTR:
                    continue
                return c_errno
            if wrote == 0:
                return EIO
            done += wrote
        # A failed sync is never tried again: the kernel may have dropped the pages it could not write.
        if self.sync and fdatasync(self.fd) < 0:
            return c_errno
        return 0

    def submit(self, int fd, const unsigned char[::1] data, int64_t offset, bint sync):
        """Start writing; one write at a time. The buffer must stay as it is until ``result``."""
        assert not self.is_busy
        self.is_busy = True
        self.buffer = data
        self.fd = fd
        self.data = &data[0]
        self.size = data.shape[0]
        self.offset = offset
        self.sync = sync
        os.eventfd_write(self.work, 1)

    def result(self):
        """Seconds that the finished write took; None while it is under way. Raises OSError if it failed."""
        try:
            os.eventfd_read(self.fileno)
        except BlockingIOError:
            return None
        self.is_busy = False
        self.buffer = None
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        return self.elapsed_ns / 1e9

    def close(self):
        """Wait for the outstanding write and end the thread."""
        if self.thread is None:
            return
        while self.is_busy:
            try:
                if self.result() is None:
                    time.sleep(0.001)
            except OSError:
                break
        self.is_closing = True
        os.eventfd_write(self.work, 1)
        self.thread.join()
        self.thread = None
        os.close(self.work)
        os.close(self.fileno)
