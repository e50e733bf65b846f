from libc.stdint cimport uint64_t


cdef struct Libssl:
    # Contexts.
    void* (*tls_server_method)() noexcept nogil
    void* (*ctx_new)(void* method) noexcept nogil
    void (*ctx_free)(void* ctx) noexcept nogil
    long (*ctx_ctrl)(void* ctx, int command, long number, void* more) noexcept nogil
    void* ctx_set_options
    int (*ctx_set_cipher_list)(void* ctx, const char* text) noexcept nogil
    int (*ctx_set_num_tickets)(void* ctx, size_t count) noexcept nogil
    void (*ctx_set_password)(void* ctx, void* text) noexcept nogil
    int (*ctx_use_certificate_chain_file)(void* ctx, const char* path) noexcept nogil
    int (*ctx_use_private_key_file)(void* ctx, const char* path, int form) noexcept nogil
    int (*ctx_check_private_key)(void* ctx) noexcept nogil
    int (*ctx_load_verify_locations)(void* ctx, const char* file, const char* directory) noexcept nogil
    void (*ctx_set_verify)(void* ctx, int mode, void* callback) noexcept nogil
    int (*ctx_set_session_id_context)(void* ctx, const unsigned char* text, unsigned int length) noexcept nogil
    # Connections.
    void* (*new)(void* ctx) noexcept nogil
    void (*free)(void* ssl) noexcept nogil
    void (*set_bio)(void* ssl, void* incoming, void* outgoing) noexcept nogil
    void (*set_accept_state)(void* ssl) noexcept nogil
    int (*read)(void* ssl, void* data, int size) noexcept nogil
    int (*write)(void* ssl, const void* data, int size) noexcept nogil
    int (*shutdown)(void* ssl) noexcept nogil
    int (*get_error)(void* ssl, int answer) noexcept nogil
    int (*is_init_finished)(void* ssl) noexcept nogil
    int (*session_reused)(void* ssl) noexcept nogil
    # What a connection reads from and writes to.
    int (*bio_get_new_index)() noexcept nogil
    void* (*bio_meth_new)(int type, const char* name) noexcept nogil
    int (*bio_meth_set_read)(void* method, int (*)(void*, char*, size_t, size_t*) noexcept nogil) noexcept nogil
    int (*bio_meth_set_write)(void* method, int (*)(void*, const char*, size_t, size_t*) noexcept nogil) noexcept nogil
    int (*bio_meth_set_ctrl)(void* method, long (*)(void*, int, long, void*) noexcept nogil) noexcept nogil
    void* (*bio_new)(void* method) noexcept nogil
    void (*bio_set_init)(void* bio, int is_ready) noexcept nogil
    void (*bio_set_flags)(void* bio, int flags) noexcept nogil
    void (*bio_clear_flags)(void* bio, int flags) noexcept nogil
    # Errors.
    unsigned long (*err_peek_last_error)() noexcept nogil
    const char* (*err_reason_error_string)(unsigned long code) noexcept nogil
    void (*err_clear_error)() noexcept nogil
    unsigned long (*version)() noexcept nogil


cdef const Libssl* libssl() except NULL
cdef void set_options(void* ctx, uint64_t options) noexcept
cdef str reason()
