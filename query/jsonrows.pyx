"""Rows to JSON text: the inner loop of every range query.

One pass over a batch's columns, without a Python object per row or value: 5 to 10 million rows a second, where dicts
and a JSON library make half a million. Numbers are written by query/shortest.pyx. What the last row had in common
with this one (the date, the second, the zone's offset) is not computed again.
"""

from collections import namedtuple

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

from query.shortest cimport DOUBLE_BYTES_MAX, write_double

from storage.kinds import Kind

Cells = namedtuple("Cells", "offset validity values offsets data")

# {"_id":"24","tag":,"value":{},"at":"24"} and a comma, with room to spare; a tag and the cells come on top.
cdef enum:
    ROW_BYTES = 128
    PREFIX_STEP = 16
    KIND_NUMBER = 0
    KIND_INTEGER = 1
    KIND_TEXT = 2
    KIND_BOOLEAN = 3
    KIND_JSON = 4

assert (Kind.NUMBER, Kind.INTEGER, Kind.TEXT, Kind.BOOLEAN, Kind.JSON) == (0, 1, 2, 3, 4)

cdef const char *HEX = b"0123456789abcdef"
cdef char[512] HEX_PAIRS  # of each byte
for _byte in range(256):
    HEX_PAIRS[2 * _byte] = HEX[_byte >> 4]
    HEX_PAIRS[2 * _byte + 1] = HEX[_byte & 15]
cdef int64_t DAY_S = 86400


cdef struct Column:
    int kind
    bint is_literal
    uint8_t *prefix  # "name": and room to copy it by PREFIX_STEP
    int64_t prefix_bytes
    int64_t offset
    const uint8_t *validity
    const uint8_t *values
    const int32_t *offsets
    const uint8_t *data


cdef struct Moment:
    int64_t second  # whose text this is
    int64_t day
    char text[24]  # YYYY-MM-DDThh:mm:ss+hhmm


cdef inline void two_digits(char *out, int number) noexcept nogil:
    out[0] = <char>(48 + number // 10)
    out[1] = <char>(48 + number % 10)


cdef void write_date(char *out, int64_t day) noexcept nogil:
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


cdef void write_moment(Moment *moment, int64_t second, int offset_s) noexcept nogil:
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


cdef inline void write_hex(char *out, uint64_t number, int digits) noexcept nogil:
    while digits:
        digits -= 2
        memcpy(out + digits, HEX_PAIRS + 2 * (number & 255), 2)
        number >>= 8


cdef int64_t write_text(uint8_t *out, const uint8_t *text, int64_t size) noexcept nogil:
    """A JSON string with its quotes: at most 6 * size + 2 bytes."""
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
            out[at + 4] = HEX[byte >> 4]
            out[at + 5] = HEX[byte & 15]
            at += 6
    out[at] = 34
    return at + 1


cdef int64_t write_integer(uint8_t *out, int64_t number) noexcept nogil:
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


cdef inline bint is_valid(const Column *column, int64_t row) noexcept nogil:
    row += column.offset
    return column.validity == NULL or column.validity[row >> 3] >> (row & 7) & 1


cdef inline int64_t text_bytes_max(const Column *column, int64_t row) noexcept nogil:
    """What a text's cell may need beyond a number's."""
    row += column.offset
    return 6 * <int64_t>(column.offsets[row + 1] - column.offsets[row])


cdef inline int64_t write_prefix(uint8_t *out, const Column *column) noexcept nogil:
    """The stream's name; up to PREFIX_STEP bytes behind it are overwritten."""
    cdef int64_t at = 0
    while at < column.prefix_bytes:
        memcpy(out + at, column.prefix + at, PREFIX_STEP)
        at += PREFIX_STEP
    return column.prefix_bytes


cdef inline int64_t write_cell(uint8_t *out, const Column *column, int64_t row) noexcept nogil:
    cdef double number
    cdef int64_t size
    row += column.offset
    if column.kind == KIND_NUMBER:
        memcpy(&number, column.values + 8 * row, 8)
        if number - number != 0:  # an engine may have written nan or infinity; JSON has neither
            memcpy(out, b"null", 4)
            return 4
        return write_double(number, out)
    if column.kind == KIND_INTEGER:
        memcpy(&size, column.values + 8 * row, 8)
        return write_integer(out, size)
    if column.kind == KIND_BOOLEAN:
        if column.values[row >> 3] >> (row & 7) & 1:
            memcpy(out, b"true", 4)
            return 4
        memcpy(out, b"false", 5)
        return 5
    size = column.offsets[row + 1] - column.offsets[row]
    if column.kind == KIND_TEXT:
        return write_text(out, column.data + column.offsets[row], size)
    memcpy(out, column.data + column.offsets[row], size)
    return size


cdef const uint8_t *address(object buffer) except? NULL:
    """Where a buffer's bytes are; the caller keeps it alive."""
    if buffer is None:
        return NULL
    cdef const uint8_t[::1] view = buffer
    return &view[0] if view.shape[0] else NULL


def json_string(bytes text):
    """A JSON string; see the stub."""
    cdef int64_t size = len(text)
    cdef uint8_t *out = <uint8_t *>malloc(6 * size + 2)
    if out == NULL:
        raise MemoryError
    try:
        size = write_text(out, <const uint8_t *><const char *>text, size)
        return (<char *>out)[:size]
    finally:
        free(out)


cdef class RowEncoder:
    """Rows as stream entries; see the stub."""

    cdef Column *_columns
    cdef uint8_t *_out  # kept from call to call: fresh memory costs a page fault for every 27 rows
    cdef int64_t _room
    cdef int _count
    cdef int64_t _row_bytes  # at most, without texts and the tag

    def __cinit__(self, columns):
        self._count = len(columns)
        self._columns = <Column *>malloc(max(1, self._count) * sizeof(Column))
        if self._columns == NULL:
            raise MemoryError
        cdef bytes prefix
        cdef int i
        for i in range(self._count):
            self._columns[i].prefix = NULL
        self._row_bytes = ROW_BYTES
        for i, (name, kind) in enumerate(columns):
            prefix = b"" if name is None else json_string(name.encode()) + b":"
            self._columns[i].kind = int(kind)
            self._columns[i].is_literal = name is None
            self._columns[i].prefix_bytes = len(prefix)
            self._columns[i].prefix = <uint8_t *>malloc(len(prefix) + PREFIX_STEP)
            if self._columns[i].prefix == NULL:
                raise MemoryError
            memcpy(self._columns[i].prefix, <const char *>prefix, len(prefix))
            self._row_bytes += len(prefix) + PREFIX_STEP + DOUBLE_BYTES_MAX + 3

    def __dealloc__(self):
        cdef int i
        if self._columns != NULL:
            for i in range(self._count):
                free(self._columns[i].prefix)
        free(self._columns)
        free(self._out)

    def encode(self, const int64_t[::1] order, const int64_t[::1] seq, const int64_t[::1] at_us,
               const int32_t[::1] tag, tags, cells, const int64_t[::1] zone_start_us,
               const int64_t[::1] zone_offset_s, bint is_first):
        """The rows' text; see the stub."""
        cdef int64_t rows = order.shape[0], k, row, tags_bytes_max = 0, size = 0, need, second, at
        cdef int64_t zone = 0, zones = zone_start_us.shape[0], until, since, offset
        cdef int i, count = self._count, tag_count = len(tags)
        cdef Column *column
        cdef Moment moment
        cdef uint8_t *out = self._out
        cdef uint8_t *grown
        cdef bint is_literal, is_empty
        cdef const uint8_t **tag_text = NULL
        cdef int64_t *tag_bytes = NULL
        assert len(cells) == count and at_us.shape[0] == tag.shape[0] == seq.shape[0] and zones
        if rows == 0:
            return b""
        for i in range(count):
            column = &self._columns[i]
            column.offset = cells[i].offset
            column.validity = address(cells[i].validity)
            column.values = address(cells[i].values)
            column.offsets = <const int32_t *>address(cells[i].offsets)
            column.data = address(cells[i].data)
        moment.second = moment.day = -(<int64_t>1 << 62)
        try:
            tag_text = <const uint8_t **>malloc(tag_count * sizeof(uint8_t *) + 1)
            tag_bytes = <int64_t *>malloc(tag_count * sizeof(int64_t) + 1)
            if tag_text == NULL or tag_bytes == NULL:
                raise MemoryError
            for i in range(tag_count):
                tag_text[i] = <const uint8_t *><const char *>tags[i]
                tag_bytes[i] = len(tags[i])
                tags_bytes_max = max(tags_bytes_max, tag_bytes[i])
            with nogil:
                since, until, offset = 1, 0, 0
                for k in range(rows):
                    row = order[k]
                    if row < 0 or row >= seq.shape[0]:
                        with gil:
                            raise IndexError("there is no such row")
                    need = self._row_bytes + tags_bytes_max
                    for i in range(count):
                        if self._columns[i].offsets != NULL:
                            need += text_bytes_max(&self._columns[i], row)
                    if size + need > self._room:
                        grown = <uint8_t *>realloc(out, size + need + (size >> 1))
                        if grown == NULL:
                            with gil:
                                raise MemoryError
                        out = self._out = grown
                        self._room = size + need + (size >> 1)
                    at = at_us[row]
                    if at < since or at >= until:
                        while zone + 1 < zones and zone_start_us[zone + 1] <= at:
                            zone += 1
                        while zone and zone_start_us[zone] > at:
                            zone -= 1
                        since = zone_start_us[zone]
                        until = zone_start_us[zone + 1] if zone + 1 < zones else (<int64_t>1 << 62)
                        offset = zone_offset_s[zone]
                        moment.second = -(<int64_t>1 << 62)
                    second = at // 1000000
                    if at < second * 1000000:
                        second -= 1
                    if second != moment.second:
                        write_moment(&moment, second, <int>offset)
                    if not is_first:
                        out[size] = 44
                        size += 1
                    is_first = False
                    memcpy(out + size, b'{"_id":"', 8)
                    write_hex(<char *>out + size + 8, <uint64_t>second, 8)
                    write_hex(<char *>out + size + 16, <uint64_t>seq[row], 16)
                    memcpy(out + size + 32, b'","tag":', 8)
                    size += 40
                    i = tag[row]
                    if i < 0 or i >= tag_count:
                        with gil:
                            raise IndexError("a row's tag is not in the list")
                    memcpy(out + size, tag_text[i], tag_bytes[i])
                    size += tag_bytes[i]
                    memcpy(out + size, b',"value":', 9)
                    size += 9
                    is_literal, is_empty = False, True
                    for i in range(count):
                        column = &self._columns[i]
                        if not is_valid(column, row):
                            continue
                        if column.is_literal:
                            if is_empty:
                                size += write_cell(out + size, column, row)
                                is_literal, is_empty = True, False
                            continue
                        if is_literal:
                            continue
                        out[size] = 123 if is_empty else 44
                        size += 1
                        size += write_prefix(out + size, column)
                        size += write_cell(out + size, column, row)
                        is_empty = False
                    if is_empty:
                        out[size] = 123
                        size += 1
                    if not is_literal:
                        out[size] = 125
                        size += 1
                    memcpy(out + size, b',"at":"', 7)
                    memcpy(out + size + 7, moment.text, 24)
                    memcpy(out + size + 31, b'"}', 2)
                    size += 33
            return (<char *>out)[:size]
        finally:
            free(tag_text)
            free(tag_bytes)
