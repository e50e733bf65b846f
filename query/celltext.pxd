"""Dates, texts and integers as bytes, for every encoder of rows; compiled into whoever uses them."""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    DAY_S = 86400


cdef struct Moment:
    int64_t second  # whose text this is
    int64_t day
    char text[24]  # YYYY-MM-DDThh:mm:ss+hhmm


cdef inline void two_digits(char *out, int number) noexcept nogil:
    out[0] = <char>(48 + number // 10)
    out[1] = <char>(48 + number % 10)


cdef inline void write_date(char *out, int64_t day) noexcept nogil:
    """Days since 1970 as YYYY-MM-DD; years 0 to 9999 (Howard Hinnant, chrono-compatible low-level date algorithms)."""
    cdef int64_t z = day + 719468
    cdef int64_t era = (z if z >= 0 else z - 146096) // 146097
    cdef int of_era = <int>(z - era * 146097)
    cdef int year_of_era = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    cdef int of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    cdef int shifted = (5 * of_year + 2) // 153
    cdef int month = shifted + 3 if shifted < 10 else shifted - 9
    cdef int year = <int>(year_of_era + era * 400) + (month <= 2)
    two_digits(out, year // 100)
    two_digits(out + 2, year % 100)
    out[4] = 45
    two_digits(out + 5, month)
    out[7] = 45
    two_digits(out + 8, of_year - (153 * shifted + 2) // 5 + 1)


cdef inline void write_moment(Moment *moment, int64_t second, int offset_s) noexcept nogil:
    """Fill the text of a second of local time; second counts UTC."""
    cdef int64_t local = second + offset_s
    cdef int64_t day = local // DAY_S
    if local < day * DAY_S:
        day -= 1
    cdef int rest = <int>(local - day * DAY_S)
    cdef int minutes = (offset_s if offset_s >= 0 else -offset_s) // 60
    if day != moment.day:
        write_date(moment.text, day)
        moment.day = day
    moment.second = second
    moment.text[10] = 84
    two_digits(moment.text + 11, rest // 3600)
    moment.text[13] = 58
    two_digits(moment.text + 14, rest // 60 % 60)
    moment.text[16] = 58
    two_digits(moment.text + 17, rest % 60)
    moment.text[19] = 43 if offset_s >= 0 else 45
    two_digits(moment.text + 20, minutes // 60)
    two_digits(moment.text + 22, minutes % 60)


cdef inline void write_fraction(char *out, int64_t at_us) noexcept nogil:
    """The microseconds within their second: six digits."""
    cdef int64_t rest = at_us % 1000000
    cdef int i, number = <int>(rest if rest >= 0 else rest + 1000000)
    for i in range(4, -1, -2):
        two_digits(out + i, number % 100)
        number //= 100


cdef inline int64_t write_text(uint8_t *out, const uint8_t *text, int64_t size) noexcept nogil:
    """A JSON string with its quotes: at most 6 * size + 2 bytes."""
    cdef const char *hexadecimal = b"0123456789abcdef"
    cdef int64_t at = 1, i
    cdef uint8_t byte
    out[0] = 34
    for i in range(size):
        byte = text[i]
        if byte >= 32 and byte != 34 and byte != 92:
            out[at] = byte
            at += 1
            continue
        out[at] = 92
        if byte == 34 or byte == 92:
            out[at + 1] = byte
            at += 2
        elif byte == 10:
            out[at + 1] = 110
            at += 2
        elif byte == 9:
            out[at + 1] = 116
            at += 2
        elif byte == 13:
            out[at + 1] = 114
            at += 2
        else:
            memcpy(out + at + 1, b"u00", 3)
            out[at + 4] = hexadecimal[byte >> 4]
            out[at + 5] = hexadecimal[byte & 15]
            at += 6
    out[at] = 34
    return at + 1


cdef inline int64_t write_field(uint8_t *out, const uint8_t *text, int64_t size) noexcept nogil:
    """A field of CSV (RFC 4180, section 2), at most 2 * size + 2 bytes; quotes where it is empty: null has none."""
    cdef int64_t at, i
    cdef bint is_plain = size > 0
    for i in range(size):
        if text[i] == 34 or text[i] == 44 or text[i] == 10 or text[i] == 13:
            is_plain = False
            break
    if is_plain:
        memcpy(out, text, size)
        return size
    out[0] = 34
    at = 1
    for i in range(size):
        if text[i] == 34:
            out[at] = 34
            at += 1
        out[at] = text[i]
        at += 1
    out[at] = 34
    return at + 1


cdef inline int64_t write_integer(uint8_t *out, int64_t number) noexcept nogil:
    cdef uint8_t backwards[20]
    cdef uint64_t rest = <uint64_t>number
    cdef int64_t at = 0
    cdef int count = 0
    if number < 0:
        out[0] = 45
        at = 1
        rest = ~rest + 1
    while True:
        backwards[count] = <uint8_t>(48 + rest % 10)
        rest //= 10
        count += 1
        if rest == 0:
            break
    while count:
        count -= 1
        out[at] = backwards[count]
        at += 1
    return at
