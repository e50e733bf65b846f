"""The fast lane's HTTP: the plain connector post, and nothing else.

The lane takes ``POST /post_v2/``, ``/post_v1/`` and ``/post/`` (with and without the last slash) of HTTP/1.1 with one
Host, one Content-Length, and headers in the plainest spelling of RFC 9112. Whatever is rarer, doubtful or wrong it
declines, before any byte is consumed, and h11 answers instead. It must never accept what h11 and the strict checks
before it refuse, nor read it differently: tests/ingest/test_http_lane_twin.py holds the two against each other.
"""

from libc.string cimport memcmp

# Beyond this a request head is not a plain one. The HTTP server's own limit is [limits] http_header_bytes_max.
cdef uint32_t HEAD_BYTES_MAX = 4096
cdef uint32_t HEADERS_MAX = 40

# RFC 9110 section 5.6.2 (tchar), lower-cased in place; 0 is not allowed in a name.
cdef uint8_t[256] TOKEN
for _byte in range(256):
    _character = chr(_byte)
    TOKEN[_byte] = ord(_character.lower()) if _byte < 128 and (
        _character.isalnum() or _character in "!#$%&'*+-.^_`|~") else 0

# RFC 3986 reg-name in the plainest form.
cdef uint8_t[256] HOST
for _byte in range(256):
    HOST[_byte] = _byte < 128 and (chr(_byte).isalnum() or chr(_byte) in "-._")


cdef inline bint same(const uint8_t* name, uint32_t length, const char* lower, uint32_t lower_length) noexcept:
    cdef uint32_t i
    if length != lower_length:
        return False
    for i in range(length):
        if TOKEN[name[i]] != <uint8_t>lower[i]:
            return False
    return True


cdef bint is_plain_host(const uint8_t* at, const uint8_t* stop) noexcept:
    """A name or an IPv4 address, and perhaps a port."""
    cdef const uint8_t* start = at
    cdef uint32_t port = 0
    while at < stop and HOST[at[0]]:
        at += 1
    if at == start:
        return False
    if at == stop:
        return True
    if at[0] != c":" or stop - at > 6:
        return False
    at += 1
    while at < stop and 48 <= at[0] <= 57:
        port = port * 10 + (at[0] - 48)
        at += 1
    return at == stop and port <= 65535


cdef inline int line_is(const uint8_t* at, uint32_t length, const char* line, uint32_t size) noexcept:
    """1: at begins with the line; 0: it may once more has come; -1: it does not."""
    if length >= size:
        return 1 if memcmp(at, line, size) == 0 else -1
    return 0 if memcmp(at, line, length) == 0 else -1


cdef int path_of(const uint8_t* at, uint32_t length, uint32_t* used) noexcept:
    """The connector's version (2 or 1) of a request line and the line's bytes; 0 needs more, -1 is not one."""
    cdef int found
    cdef bint possible = False
    if length <= 10 or at[10] == c"_":
        used[0] = 25
        found = line_is(at, length, b"POST /post_v2/ HTTP/1.1\r\n", 25)
        if found > 0:
            return 2
        possible = found == 0
        found = line_is(at, length, b"POST /post_v1/ HTTP/1.1\r\n", 25)
        if found > 0:
            return 1
        possible = possible or found == 0
    used[0] = 24
    found = line_is(at, length, b"POST /post_v2 HTTP/1.1\r\n", 24)
    if found > 0:
        return 2
    possible = possible or found == 0
    found = line_is(at, length, b"POST /post_v1 HTTP/1.1\r\n", 24)
    if found > 0:
        return 1
    possible = possible or found == 0
    used[0] = 22
    found = line_is(at, length, b"POST /post/ HTTP/1.1\r\n", 22)
    if found > 0:
        return 1
    possible = possible or found == 0
    used[0] = 21
    found = line_is(at, length, b"POST /post HTTP/1.1\r\n", 21)
    if found > 0:
        return 1
    return 0 if possible or found == 0 else -1


cdef Verdict parse_post(const uint8_t* data, uint32_t length, uint32_t body_bytes_max, Post* post) noexcept:
    """Look at the bytes from a request boundary on. Nothing is kept; the pointers point into data."""
    cdef uint32_t used = 0, headers = 0, name_bytes, value_bytes
    cdef const uint8_t* at
    cdef const uint8_t* end = data + length
    cdef const uint8_t* head_end
    cdef const uint8_t* name
    cdef const uint8_t* value
    cdef const uint8_t* stop
    cdef int64_t content_length = -1
    cdef bint host = False
    cdef int version = path_of(data, length, &used)
    if version < 0:
        return DECLINE
    if version == 0:
        return NEED_MORE
    post.version = version
    post.close = False
    post.token = post.device = post.tag = NULL
    post.token_bytes = post.device_bytes = post.tag_bytes = 0
    head_end = end if length <= HEAD_BYTES_MAX else data + HEAD_BYTES_MAX
    at = data + used
    while True:
        # One header line: name ":" OWS value OWS CRLF, or the empty line.
        if at == head_end:
            return DECLINE if head_end < end or length >= HEAD_BYTES_MAX else NEED_MORE
        if at[0] == 13:
            if at + 1 == head_end:
                return DECLINE if head_end < end or length >= HEAD_BYTES_MAX else NEED_MORE
            if at[1] != 10:
                return DECLINE
            at += 2
            break
        headers += 1
        if headers > HEADERS_MAX:
            return DECLINE
        name = at
        while at < head_end and TOKEN[at[0]]:
            at += 1
        name_bytes = <uint32_t>(at - name)
        if at == head_end:
            return DECLINE if head_end < end or length >= HEAD_BYTES_MAX else NEED_MORE
        if at[0] != c":" or name_bytes == 0:
            return DECLINE
        at += 1
        while at < head_end and (at[0] == 32 or at[0] == 9):
            at += 1
        value = at
        while at < head_end and 32 <= at[0] < 127:
            at += 1
        if head_end - at < 2:
            # A lone CR at the end may still become CRLF; anything else cannot.
            if at < head_end and at[0] != 13:
                return DECLINE
            return DECLINE if head_end < end or length >= HEAD_BYTES_MAX else NEED_MORE
        if at[0] != 13 or at[1] != 10:
            return DECLINE
        stop = at
        at += 2
        while stop > value and (stop - 1)[0] == 32:
            stop -= 1
        value_bytes = <uint32_t>(stop - value)
        if same(name, name_bytes, b"host", 4):
            if host or value_bytes == 0:
                return DECLINE
            host = True
            if not is_plain_host(value, stop):
                return DECLINE
        elif same(name, name_bytes, b"content-length", 14):
            if content_length >= 0 or not 1 <= value_bytes <= 8:
                return DECLINE
            content_length = 0
            while value < stop:
                if not 48 <= value[0] <= 57:
                    return DECLINE
                content_length = content_length * 10 + (value[0] - 48)
                value += 1
        elif same(name, name_bytes, b"x-devicetoken", 13):
            if post.token != NULL:
                return DECLINE
            post.token = value
            post.token_bytes = value_bytes
        elif same(name, name_bytes, b"x-deviceid", 10):
            if post.device != NULL:
                return DECLINE
            post.device = value
            post.device_bytes = value_bytes
        elif same(name, name_bytes, b"x-tagname", 9):
            if post.tag != NULL:
                return DECLINE
            post.tag = value
            post.tag_bytes = value_bytes
        elif same(name, name_bytes, b"connection", 10):
            if same(value, value_bytes, b"close", 5):
                post.close = True
            elif not same(value, value_bytes, b"keep-alive", 10):
                return DECLINE
        elif (same(name, name_bytes, b"transfer-encoding", 17) or same(name, name_bytes, b"expect", 6)
                or same(name, name_bytes, b"upgrade", 7) or same(name, name_bytes, b"te", 2)
                or same(name, name_bytes, b"trailer", 7) or same(name, name_bytes, b"content-encoding", 16)):
            return DECLINE
    if not host or content_length < 0 or content_length > body_bytes_max:
        return DECLINE
    if end - at < content_length:
        return NEED_MORE
    post.body = at
    post.body_bytes = <uint32_t>content_length
    post.consumed = <uint32_t>(at - data) + post.body_bytes
    return COMPLETE


def parse(const unsigned char[::1] data, body_bytes_max=65_536):
    """For tests: None (declined), False (needs more) or the post as a dict."""
    cdef Post post
    cdef Verdict verdict = parse_post(&data[0] if len(data) else NULL, <uint32_t>len(data), body_bytes_max, &post)
    if verdict == DECLINE:
        return None
    if verdict == NEED_MORE:
        return False
    return {
        "version": post.version, "close": bool(post.close), "consumed": post.consumed,
        "token": None if post.token == NULL else <bytes>post.token[:post.token_bytes],
        "device": None if post.device == NULL else <bytes>post.device[:post.device_bytes],
        "tag": None if post.tag == NULL else <bytes>post.tag[:post.tag_bytes],
        "body": <bytes>post.body[:post.body_bytes],
    }
