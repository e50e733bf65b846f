"""OpenSSL's own functions, found in the library that Python's ssl has loaded. No header of it is needed to build.

What is declared here are functions that OpenSSL has documented and kept since 1.1.1, and 3 has them unchanged but for
one (``set_options``). No structure of it is looked into. Python's ssl is bound to the same library, but everything of
it is behind its objects: its contexts cannot be had without reading CPython's private layout, so that ours are made
anew from the same files (thingscale.tls).

The first who asks loads it. The symbols are looked for in what ``_ssl`` depends on, then by name: a Python that brings
its OpenSSL within itself does not let others use it, and the system's is as good.
"""

import _ssl

from libc.stdint cimport uint64_t

cdef extern from "dlfcn.h" nogil:
    cdef enum:
        RTLD_NOW, RTLD_LOCAL
    void* dlopen(const char* path, int flags)
    void* dlsym(void* library, const char* name)

NAMES = ("libssl.so.3", "libssl.so.1.1")

cdef enum:
    OLDEST = 0x10101000     # 1.1.1
    THIRD = 0x30000000

ctypedef uint64_t (*SetOptions)(void* ctx, uint64_t options) noexcept nogil
ctypedef unsigned long (*SetOptionsOf1)(void* ctx, unsigned long options) noexcept nogil

cdef Libssl table
cdef bint is_loaded = False


class LibsslMissingError(OSError):
    """There is no OpenSSL that can be used; the message says what was looked for."""


cdef int resolve(void* library, const char* name, void** to) except -1:
    to[0] = dlsym(library, name)
    if to[0] == NULL:
        raise LibsslMissingError(f"{name.decode()} is missing")
    return 0


cdef int fill(void* library, Libssl* to) except -1:
    """Every function. Raises LibsslMissingError."""
    resolve(library, "TLS_server_method", <void**>&to.tls_server_method)
    resolve(library, "SSL_CTX_new", <void**>&to.ctx_new)
    resolve(library, "SSL_CTX_free", <void**>&to.ctx_free)
    resolve(library, "SSL_CTX_ctrl", <void**>&to.ctx_ctrl)
    resolve(library, "SSL_CTX_set_options", &to.ctx_set_options)
    resolve(library, "SSL_CTX_set_cipher_list", <void**>&to.ctx_set_cipher_list)
    resolve(library, "SSL_CTX_set_num_tickets", <void**>&to.ctx_set_num_tickets)
    resolve(library, "SSL_CTX_set_default_passwd_cb_userdata", <void**>&to.ctx_set_password)
    resolve(library, "SSL_CTX_use_certificate_chain_file", <void**>&to.ctx_use_certificate_chain_file)
    resolve(library, "SSL_CTX_use_PrivateKey_file", <void**>&to.ctx_use_private_key_file)
    resolve(library, "SSL_CTX_check_private_key", <void**>&to.ctx_check_private_key)
    resolve(library, "SSL_CTX_load_verify_locations", <void**>&to.ctx_load_verify_locations)
    resolve(library, "SSL_CTX_set_verify", <void**>&to.ctx_set_verify)
    resolve(library, "SSL_CTX_set_session_id_context", <void**>&to.ctx_set_session_id_context)
    resolve(library, "SSL_new", <void**>&to.new)
    resolve(library, "SSL_free", <void**>&to.free)
    resolve(library, "SSL_set_bio", <void**>&to.set_bio)
    resolve(library, "SSL_set_accept_state", <void**>&to.set_accept_state)
    resolve(library, "SSL_read", <void**>&to.read)
    resolve(library, "SSL_write", <void**>&to.write)
    resolve(library, "SSL_shutdown", <void**>&to.shutdown)
    resolve(library, "SSL_get_error", <void**>&to.get_error)
    resolve(library, "SSL_is_init_finished", <void**>&to.is_init_finished)
    resolve(library, "SSL_session_reused", <void**>&to.session_reused)
    resolve(library, "BIO_get_new_index", <void**>&to.bio_get_new_index)
    resolve(library, "BIO_meth_new", <void**>&to.bio_meth_new)
    resolve(library, "BIO_meth_set_read_ex", <void**>&to.bio_meth_set_read)
    resolve(library, "BIO_meth_set_write_ex", <void**>&to.bio_meth_set_write)
    resolve(library, "BIO_meth_set_ctrl", <void**>&to.bio_meth_set_ctrl)
    resolve(library, "BIO_new", <void**>&to.bio_new)
    resolve(library, "BIO_set_init", <void**>&to.bio_set_init)
    resolve(library, "BIO_set_flags", <void**>&to.bio_set_flags)
    resolve(library, "BIO_clear_flags", <void**>&to.bio_clear_flags)
    resolve(library, "ERR_peek_last_error", <void**>&to.err_peek_last_error)
    resolve(library, "ERR_reason_error_string", <void**>&to.err_reason_error_string)
    resolve(library, "ERR_clear_error", <void**>&to.err_clear_error)
    resolve(library, "OpenSSL_version_num", <void**>&to.version)
    if to.version() < OLDEST:
        raise LibsslMissingError(f"version {to.version():#x} is older than 1.1.1")
    return 0


def load(paths):
    """Take the first library that has everything; whoever is in use already stays. Raises LibsslMissingError."""
    global is_loaded
    cdef void* library
    cdef Libssl found
    cdef list failures = []
    for path in paths:
        library = dlopen(path.encode(), RTLD_NOW | RTLD_LOCAL)
        if library == NULL:
            failures.append(f"{path} is not there")
            continue
        try:
            fill(library, &found)
        except LibsslMissingError as error:
            failures.append(f"{path}: {error}")
            continue
        if not is_loaded:
            (&table)[0] = found
            is_loaded = True
        return
    raise LibsslMissingError(f"TLS needs OpenSSL 1.1.1 or 3 as a shared library: {'; '.join(failures)}")


cdef const Libssl* libssl() except NULL:
    """The functions. Raises LibsslMissingError."""
    if not is_loaded:
        load([path for path in (getattr(_ssl, "__file__", None), *NAMES) if path])
    return &table


cdef void set_options(void* ctx, uint64_t options) noexcept:
    """The one function whose type has changed: options have 64 bits since OpenSSL 3."""
    if table.version() >= THIRD:
        (<SetOptions>table.ctx_set_options)(ctx, options)
    else:
        (<SetOptionsOf1>table.ctx_set_options)(ctx, <unsigned long>options)


cdef str reason():
    """What OpenSSL says of the last error, which is forgotten with the others."""
    cdef unsigned long code = table.err_peek_last_error()
    cdef const char* text = table.err_reason_error_string(code) if code else NULL
    table.err_clear_error()
    return text.decode("ascii", "replace") if text != NULL else f"error {code:#x}"
