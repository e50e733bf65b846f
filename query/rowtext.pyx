"""Rows to text (the contract's JSON, NDJSON, CSV): the inner loop of every range query.

One pass over a batch's columns, without a Python object per row or value: 5 to 10 million rows a second, where dicts
and a JSON library make half a million. Numbers are written by query/shortest.pyx. What the last row had in common
with this one (the date, the second, the zone's offset) is not computed again.
"""

from collections import namedtuple

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

from query.celltext cimport Moment, write_field, write_fraction, write_integer, write_moment, write_text
from query.shortest cimport DOUBLE_BYTES_MAX, write_double

from storage.kinds import Kind

Cells = namedtuple("Cells", "offset validity values offsets data")
Names = namedtuple("Names", "positions texts")

ENTRIES, LINES, FIELDS = range(3)

# {"channel":10,"_id":"24","at":"32","device":,"tag":,"value":{}} and a line's end, with room to spare; names and cells
# come on top.
cdef enum:
    ROW_BYTES = 160
    LEAD_BYTES_MAX = 32
    SHAPE_ENTRIES = 0
    SHAPE_LINES = 1
    SHAPE_FIELDS = 2
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


cdef inline void write_hex(char *out, uint64_t number, int digits) noexcept nogil:
    while digits:
        digits -= 2
        memcpy(out + digits, HEX_PAIRS + 2 * (number & 255), 2)
        number >>= 8


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


cdef inline int64_t write_field_cell(uint8_t *out, const Column *column, int64_t row) noexcept nogil:
    """A cell of CSV; nothing for what is not there, or not a number."""
    cdef double number
    cdef int64_t at = row + column.offset
    if column.kind == KIND_TEXT or column.kind == KIND_JSON:
        return write_field(out, column.data + column.offsets[at], column.offsets[at + 1] - column.offsets[at])
    if column.kind == KIND_NUMBER:
        memcpy(&number, column.values + 8 * at, 8)
        if number - number != 0:
            return 0
    return write_cell(out, column, row)


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


def csv_field(bytes text):
    """A field of CSV; see the stub."""
    cdef int64_t size = len(text)
    cdef uint8_t *out = <uint8_t *>malloc(2 * size + 2)
    if out == NULL:
        raise MemoryError
    try:
        size = write_field(out, <const uint8_t *><const char *>text, size)
        return (<char *>out)[:size]
    finally:
        free(out)


cdef struct Texts:
    const int32_t *index
    const uint8_t **text
    int64_t *bytes
    int count


cdef int64_t look_up(Texts *texts, object names, int64_t rows) except -1:
    """Where the names' texts are; how long the longest is. The caller keeps them alive, and frees."""
    cdef int64_t longest = 0
    cdef int i
    cdef const int32_t[::1] index
    if names is None:
        return 0
    index = names.positions
    assert index.shape[0] == rows
    texts.index = &index[0]
    texts.count = len(names.texts)
    texts.text = <const uint8_t **>malloc(texts.count * sizeof(uint8_t *) + 1)
    texts.bytes = <int64_t *>malloc(texts.count * sizeof(int64_t) + 1)
    if texts.text == NULL or texts.bytes == NULL:
        raise MemoryError
    for i in range(texts.count):
        texts.text[i] = <const uint8_t *><const char *>names.texts[i]
        texts.bytes[i] = len(names.texts[i])
        longest = max(longest, texts.bytes[i])
    return longest


cdef inline int64_t write_name(uint8_t *out, const Texts *texts, int64_t row) noexcept nogil:
    """The row's device or tag; -1 if it is not in the list."""
    cdef int i = texts.index[row]
    if i < 0 or i >= texts.count:
        return -1
    memcpy(out, texts.text[i], texts.bytes[i])
    return texts.bytes[i]


cdef inline int64_t write_precise(uint8_t *out, const Moment *moment, int64_t at_us) noexcept nogil:
    """YYYY-MM-DDThh:mm:ss.ffffff+hh:mm, 32 bytes."""
    memcpy(out, moment.text, 19)
    out[19] = 46
    write_fraction(<char *>out + 20, at_us)
    memcpy(out + 26, moment.text + 19, 3)
    out[29] = 58
    memcpy(out + 30, moment.text + 22, 2)
    return 32


cdef inline int64_t write_id(uint8_t *out, int64_t second, int64_t seq) noexcept nogil:
    """"_id":"24 digits", 32 bytes."""
    memcpy(out, b'"_id":"', 7)
    write_hex(<char *>out + 7, <uint64_t>second, 8)
    write_hex(<char *>out + 15, <uint64_t>seq, 16)
    out[31] = 34
    return 32


cdef class RowEncoder:
    """Rows in one of the shapes; see the stub."""

    cdef Column *_columns
    cdef uint8_t *_out  # kept from call to call: fresh memory costs a page fault for every 27 rows
    cdef int64_t _room
    cdef int _count
    cdef int _shape
    cdef uint8_t[LEAD_BYTES_MAX] _lead  # before each row: the channel, if it is said
    cdef int64_t _lead_bytes
    cdef int64_t _row_bytes  # at most, without texts, device and tag

    def __cinit__(self, columns, int shape=SHAPE_ENTRIES, channel=None):
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
        assert shape in (SHAPE_ENTRIES, SHAPE_LINES, SHAPE_FIELDS)
        self._shape = shape
        prefix = b"" if channel is None else b'%d,' % channel
        if shape == SHAPE_LINES:
            prefix = b"{" if channel is None else b'{"channel":%d,' % channel
        assert len(prefix) <= LEAD_BYTES_MAX
        memcpy(self._lead, <const char *>prefix, len(prefix))
        self._lead_bytes = len(prefix)

    def __dealloc__(self):
        cdef int i
        if self._columns != NULL:
            for i in range(self._count):
                free(self._columns[i].prefix)
        free(self._columns)
        free(self._out)

    cdef inline int64_t _write_value(self, uint8_t *out, int64_t row) noexcept nogil:
        """The row's cells as JSON: an object, or its literal."""
        cdef int64_t size = 0
        cdef int i
        cdef bint is_literal = False, is_empty = True
        cdef Column *column
        for i in range(self._count):
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
        return size

    cdef inline int64_t _write_row(self, uint8_t *out, int64_t row, int64_t seq, int64_t at_us, const Moment *moment,
                                   const Texts *device, const Texts *tag) noexcept nogil:
        """One row in the shape; -1 if its device or tag is not in the list."""
        cdef int64_t size, written
        cdef int i
        if self._shape == SHAPE_ENTRIES:
            out[0] = 123
            size = 1 + write_id(out + 1, moment.second, seq)
            memcpy(out + size, b',"tag":', 7)
            size += 7
            written = write_name(out + size, tag, row)
            if written < 0:
                return -1
            size += written
            memcpy(out + size, b',"value":', 9)
            size += 9
            size += self._write_value(out + size, row)
            memcpy(out + size, b',"at":"', 7)
            memcpy(out + size + 7, moment.text, 24)
            memcpy(out + size + 31, b'"}', 2)
            return size + 33
        memcpy(out, self._lead, LEAD_BYTES_MAX)
        size = self._lead_bytes
        if self._shape == SHAPE_LINES:
            size += write_id(out + size, moment.second, seq)
            memcpy(out + size, b',"at":"', 7)
            size += 7
            size += write_precise(out + size, moment, at_us)
            memcpy(out + size, b'","device":', 11)
            size += 11
        else:
            size += write_integer(out + size, seq)
            out[size] = 44
            size += 1
            size += write_precise(out + size, moment, at_us)
            out[size] = 44
            size += 1
        written = write_name(out + size, device, row)
        if written < 0:
            return -1
        size += written
        if self._shape == SHAPE_LINES:
            memcpy(out + size, b',"tag":', 7)
            size += 7
        else:
            out[size] = 44
            size += 1
        written = write_name(out + size, tag, row)
        if written < 0:
            return -1
        size += written
        if self._shape == SHAPE_LINES:
            memcpy(out + size, b',"value":', 9)
            size += 9
            size += self._write_value(out + size, row)
            memcpy(out + size, b"}\n", 2)
            return size + 2
        for i in range(self._count):
            out[size] = 44
            size += 1
            if is_valid(&self._columns[i], row):
                size += write_field_cell(out + size, &self._columns[i], row)
        memcpy(out + size, b"\r\n", 2)
        return size + 2

    def encode(self, const int64_t[::1] order, const int64_t[::1] seq, const int64_t[::1] at_us,
               device, tag, cells, const int64_t[::1] zone_start_us,
               const int64_t[::1] zone_offset_s, bint is_first):
        """The rows' text; see the stub."""
        cdef int64_t rows = order.shape[0], k, row, names_bytes_max = 0, size = 0, need, second, at, written
        cdef int64_t zone = 0, zones = zone_start_us.shape[0], until, since, offset
        cdef int i, count = self._count
        cdef Column *column
        cdef Moment moment
        cdef Texts devices, tags
        cdef uint8_t *out = self._out
        cdef uint8_t *grown
        assert len(cells) == count and at_us.shape[0] == seq.shape[0] and zones
        assert self._shape == SHAPE_ENTRIES or device is not None
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
        devices.text = tags.text = NULL
        devices.bytes = tags.bytes = NULL
        try:
            names_bytes_max = look_up(&devices, device, seq.shape[0]) + look_up(&tags, tag, seq.shape[0])
            with nogil:
                since, until, offset = 1, 0, 0
                for k in range(rows):
                    row = order[k]
                    if row < 0 or row >= seq.shape[0]:
                        with gil:
                            raise IndexError("there is no such row")
                    need = self._row_bytes + names_bytes_max
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
                    if self._shape == SHAPE_ENTRIES and not is_first:
                        out[size] = 44
                        size += 1
                    is_first = False
                    written = self._write_row(out + size, row, seq[row], at, &moment, &devices, &tags)
                    if written < 0:
                        with gil:
                            raise IndexError("a row's device or tag is not in the list")
                    size += written
            return (<char *>out)[:size]
        finally:
            free(devices.text)
            free(devices.bytes)
            free(tags.text)
            free(tags.bytes)
