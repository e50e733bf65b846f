"""Payload bytes to cells: JSON (RFC 8259), the v1 form, and binary.

The decoder is strict where it matters for what is stored: JSON must be UTF-8 without a byte order mark, control
characters inside strings, lone surrogates, NaN and Infinity are refused, and so is a number that a float64 cannot
hold. It decodes into members of its own first; nothing outside changes unless the whole payload is good.

Every pointer is compared with ``end`` before it is read; the differential tests feed arbitrary bytes cut at every
length. Numbers take the exact fast path of Clinger (1990): a decimal of at most 2**53 scaled by a power of ten up to
10**22 needs one correctly rounded operation; everything else goes to CPython's own correctly rounded conversion.
"""

from cpython.object cimport PyObject
from libc.string cimport memcmp, memcpy
from libc.stdlib cimport free, malloc, realloc

from storage.kinds import Kind, PayloadKind, Refusal

cdef extern from "Python.h":
    double PyOS_string_to_double(const char* text, char** end, PyObject* overflow) except? -1.0

cdef enum:
    NUMBER = 0
    INTEGER = 1
    TEXT = 2
    BOOLEAN = 3
    JSON = 4

cdef enum:
    GOOD = 0
    BAD_JSON = 8
    BAD_FORM = 9
    TOO_DEEP = 11
    KEY_TOO_LONG = 12
    OUT_OF_RANGE = 14

assert (NUMBER, INTEGER, TEXT, BOOLEAN, JSON) == tuple(Kind)
assert (BAD_JSON, BAD_FORM, TOO_DEEP, KEY_TOO_LONG, OUT_OF_RANGE) == (
    Refusal.BAD_JSON_FORMAT, Refusal.BAD_FORM_FORMAT, Refusal.JSON_TOO_DEEP, Refusal.KEY_TOO_LONG,
    Refusal.NUMBER_OUT_OF_RANGE)

cdef int PAYLOAD_JSON = PayloadKind.JSON
cdef int PAYLOAD_FORM = PayloadKind.FORM
cdef int PAYLOAD_BINARY = PayloadKind.BINARY

cdef double[23] POWERS
for _power in range(23):
    POWERS[_power] = 10.0 ** _power

cdef int64_t EXACT = <int64_t>1 << 53
cdef int64_t EXPONENT_HELD = <int64_t>1 << 33
cdef const char* HEX = b"0123456789abcdef"
cdef const char* FORM_NAMES = b"value1value2value3value4"

# What a string's byte is: 0 plain ASCII, 1 ends or escapes or is forbidden, 2 starts a multi-byte character.
cdef uint8_t[256] STRING_CLASS
for _byte in range(256):
    STRING_CLASS[_byte] = 1 if _byte < 0x20 or _byte in b'"\\' else 2 if _byte >= 0x80 else 0


cdef inline int utf8_length(const uint8_t* at, const uint8_t* end) noexcept:
    """Bytes of the well-formed UTF-8 character at ``at`` (Unicode 15, table 3-7), 0 when it is not one."""
    cdef Py_ssize_t room = end - at
    cdef uint8_t first = at[0]
    if first < 0xC2:
        return 0
    if first < 0xE0:
        return 2 if room >= 2 and at[1] & 0xC0 == 0x80 else 0
    if first < 0xF0:
        if room < 3 or at[1] & 0xC0 != 0x80 or at[2] & 0xC0 != 0x80:
            return 0
        if (first == 0xE0 and at[1] < 0xA0) or (first == 0xED and at[1] >= 0xA0):
            return 0
        return 3
    if first < 0xF5:
        if room < 4 or at[1] & 0xC0 != 0x80 or at[2] & 0xC0 != 0x80 or at[3] & 0xC0 != 0x80:
            return 0
        if (first == 0xF0 and at[1] < 0x90) or (first == 0xF4 and at[1] >= 0x90):
            return 0
        return 4
    return 0


cdef inline int hex_digit(uint8_t byte) noexcept:
    if 48 <= byte <= 57:
        return byte - 48
    if 97 <= byte <= 102:
        return byte - 87
    if 65 <= byte <= 70:
        return byte - 55
    return -1


cdef inline uint64_t bits_of(double number) noexcept:
    cdef uint64_t result
    memcpy(&result, &number, 8)
    return result


cdef class Decoder:
    """Decodes one payload at a time; the members are valid until the next call and as long as the payload is.

    Args:
        json_depth_max: containers within containers; the outermost one is depth 1.
        key_bytes_max: UTF-8 bytes of one key of the outermost object.
    """

    def __cinit__(self, json_depth_max=0xFFFFFFFF, key_bytes_max=0xFFFFFFFF):
        self.members_size = 64
        self.members = <Member*>malloc(self.members_size * sizeof(Member))
        self.scratch_size = 4096
        self.scratch = <char*>malloc(self.scratch_size)
        if self.members == NULL or self.scratch == NULL:
            raise MemoryError
        self.depth_max = json_depth_max
        self.key_bytes_max = key_bytes_max

    def __dealloc__(self):
        free(self.members)
        free(self.scratch)

    cdef int reserve(self, uint32_t length) except -1:
        # Hex doubles; every other text is at most as long as its source. One byte more for a terminator.
        cdef size_t need = 2 * <size_t>length + 64
        cdef void* grown
        if need > self.scratch_size:
            grown = realloc(self.scratch, need)
            if grown == NULL:
                raise MemoryError
            self.scratch = <char*>grown
            self.scratch_size = need
        self.scratch_used = 0
        return 0

    cdef Member* push(self) except NULL:
        cdef void* grown
        if self.count == self.members_size:
            grown = realloc(self.members, 2 * self.members_size * sizeof(Member))
            if grown == NULL:
                raise MemoryError
            self.members = <Member*>grown
            self.members_size *= 2
        self.count += 1
        return &self.members[self.count - 1]

    cdef int decode(self, int kind, const uint8_t* payload, uint32_t length) except -1:
        """Fill the members; 0, or the Refusal's number."""
        self.reserve(length)
        self.count = 0
        self.literal = False
        self.at = payload
        self.end = payload + length
        if kind == PAYLOAD_JSON:
            return self.json()
        if kind == PAYLOAD_FORM:
            return self.form()
        assert kind == PAYLOAD_BINARY
        self.binary(payload, length)
        return GOOD

    # ---- JSON

    cdef inline void space(self) noexcept:
        while self.at < self.end and (self.at[0] == 32 or self.at[0] == 10 or self.at[0] == 13 or self.at[0] == 9):
            self.at += 1

    cdef bint word(self, const char* text, uint32_t length) noexcept:
        if self.end - self.at < <Py_ssize_t>length or memcmp(self.at, text, length) != 0:
            return False
        self.at += length
        return True

    cdef int json(self) except -1:
        cdef int refusal
        cdef Member* member
        self.space()
        if self.at == self.end:
            return BAD_JSON
        if self.at[0] == c"{":
            refusal = self.json_object()
        else:
            self.literal = True
            member = self.push()
            member.name = b""
            member.name_bytes = 0
            refusal = self.json_member_value(member)
        if refusal:
            return refusal
        self.space()
        return GOOD if self.at == self.end else BAD_JSON

    cdef int json_object(self) except -1:
        cdef int refusal
        cdef const char* name = NULL
        cdef uint32_t name_bytes = 0
        cdef Member* member
        if self.depth_max < 1:
            return TOO_DEEP
        self.at += 1
        self.space()
        if self.at < self.end and self.at[0] == c"}":
            self.at += 1
            return GOOD
        while True:
            if self.at == self.end or self.at[0] != c'"':
                return BAD_JSON
            refusal = self.json_string(&name, &name_bytes)
            if refusal:
                return refusal
            if name_bytes > self.key_bytes_max:
                return KEY_TOO_LONG
            self.space()
            if self.at == self.end or self.at[0] != c":":
                return BAD_JSON
            self.at += 1
            self.space()
            member = self.push()
            member.name = name
            member.name_bytes = name_bytes
            refusal = self.json_member_value(member)
            if refusal:
                return refusal
            self.space()
            if self.at == self.end:
                return BAD_JSON
            if self.at[0] == c"}":
                self.at += 1
                return GOOD
            if self.at[0] != c",":
                return BAD_JSON
            self.at += 1
            self.space()

    cdef int json_member_value(self, Member* member) except -1:
        cdef uint8_t first
        if self.at == self.end:
            return BAD_JSON
        first = self.at[0]
        if first == c'"':
            member.kind = TEXT
            return self.json_string(&member.text, &member.text_bytes)
        if first == c"-" or 48 <= first <= 57:
            return self.json_number(member)
        if first == c"{" or first == c"[":
            return self.nested(member)
        if self.word(b"true", 4) or self.word(b"false", 5):
            member.kind = BOOLEAN
            member.bits = first == c"t"
            return GOOD
        if self.word(b"null", 4):
            member.kind = JSON
            member.text = b"null"
            member.text_bytes = 4
            return GOOD
        return BAD_JSON

    cdef int json_string(self, const char** text, uint32_t* length) except -1:
        """At the opening quote; leaves ``at`` behind the closing one."""
        cdef const uint8_t* start = self.at + 1
        cdef const uint8_t* at = start
        cdef int width
        while at < self.end:
            if STRING_CLASS[at[0]] == 0:
                at += 1
            elif at[0] == c'"':
                text[0] = <const char*>start
                length[0] = <uint32_t>(at - start)
                self.at = at + 1
                return GOOD
            elif at[0] == c"\\":
                return self.json_escaped(start, text, length)
            elif at[0] < 0x20:
                return BAD_JSON
            else:
                width = utf8_length(at, self.end)
                if width == 0:
                    return BAD_JSON
                at += width
        return BAD_JSON

    cdef int json_escaped(self, const uint8_t* start, const char** text, uint32_t* length) except -1:
        """The same with escapes: decode into the scratch."""
        cdef const uint8_t* at = start
        cdef const uint8_t* end = self.end
        cdef uint8_t* out = <uint8_t*>self.scratch + self.scratch_used
        cdef uint8_t* first = out
        cdef int width, i, digit
        cdef uint32_t code, low
        cdef uint8_t escape
        while at < end:
            if STRING_CLASS[at[0]] == 0:
                out[0] = at[0]
                out += 1
                at += 1
            elif at[0] == c'"':
                text[0] = <const char*>first
                length[0] = <uint32_t>(out - first)
                self.scratch_used += out - first
                self.at = at + 1
                return GOOD
            elif at[0] < 0x20:
                return BAD_JSON
            elif at[0] != c"\\":
                width = utf8_length(at, end)
                if width == 0:
                    return BAD_JSON
                memcpy(out, at, width)
                out += width
                at += width
            else:
                if end - at < 2:
                    return BAD_JSON
                escape = at[1]
                at += 2
                if escape == c'"' or escape == c"\\" or escape == c"/":
                    code = escape
                elif escape == c"b":
                    code = 8
                elif escape == c"f":
                    code = 12
                elif escape == c"n":
                    code = 10
                elif escape == c"r":
                    code = 13
                elif escape == c"t":
                    code = 9
                elif escape == c"u":
                    if end - at < 4:
                        return BAD_JSON
                    code = 0
                    for i in range(4):
                        digit = hex_digit(at[i])
                        if digit < 0:
                            return BAD_JSON
                        code = code * 16 + digit
                    at += 4
                    if 0xDC00 <= code <= 0xDFFF:
                        return BAD_JSON
                    if 0xD800 <= code <= 0xDBFF:
                        if end - at < 6 or at[0] != c"\\" or at[1] != c"u":
                            return BAD_JSON
                        low = 0
                        for i in range(2, 6):
                            digit = hex_digit(at[i])
                            if digit < 0:
                                return BAD_JSON
                            low = low * 16 + digit
                        if not 0xDC00 <= low <= 0xDFFF:
                            return BAD_JSON
                        at += 6
                        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
                else:
                    return BAD_JSON
                if code < 0x80:
                    out[0] = code
                    out += 1
                elif code < 0x800:
                    out[0] = 0xC0 | (code >> 6)
                    out[1] = 0x80 | (code & 0x3F)
                    out += 2
                elif code < 0x10000:
                    out[0] = 0xE0 | (code >> 12)
                    out[1] = 0x80 | ((code >> 6) & 0x3F)
                    out[2] = 0x80 | (code & 0x3F)
                    out += 3
                else:
                    out[0] = 0xF0 | (code >> 18)
                    out[1] = 0x80 | ((code >> 12) & 0x3F)
                    out[2] = 0x80 | ((code >> 6) & 0x3F)
                    out[3] = 0x80 | (code & 0x3F)
                    out += 4
        return BAD_JSON

    cdef int json_number(self, Member* member) except -1:
        """At ``-`` or a digit; leaves ``at`` behind the number (RFC 8259 section 6)."""
        cdef const uint8_t* start = self.at
        cdef const uint8_t* at = start
        cdef const uint8_t* end = self.end
        cdef const uint8_t* first
        cdef const uint8_t* point
        cdef bint negative = at[0] == c"-", has_exponent = False
        cdef uint64_t mantissa = 0      # of at most 18 digits; beyond them it is not used
        cdef Py_ssize_t scale = 0
        cdef double number
        if negative:
            at += 1
        first = at
        if at == end or not 48 <= at[0] <= 57:
            return BAD_JSON
        if at[0] == 48:
            at += 1
        else:
            while at < end and 48 <= at[0] <= 57:
                mantissa = mantissa * 10 + (at[0] - 48)
                at += 1
        if at < end and at[0] == c".":
            at += 1
            if at == end or not 48 <= at[0] <= 57:
                return BAD_JSON
            point = at
            while at < end and 48 <= at[0] <= 57:
                mantissa = mantissa * 10 + (at[0] - 48)
                at += 1
            scale = at - point
        if at < end and (at[0] == c"e" or at[0] == c"E"):
            has_exponent = True
            at += 1
            if at < end and (at[0] == c"+" or at[0] == c"-"):
                at += 1
            if at == end or not 48 <= at[0] <= 57:
                return BAD_JSON
            while at < end and 48 <= at[0] <= 57:
                at += 1
        self.at = at
        # What devices mostly send takes one exact operation; everything else has its own function.
        if has_exponent or at - first > 18 or mantissa > <uint64_t>EXACT:
            return decimal(self, member, start, at)
        number = <double>mantissa
        if scale:
            number = number / POWERS[scale]
        member.kind = NUMBER
        member.bits = bits_of(-number if negative and (mantissa or scale) else number)
        return GOOD

    cdef int nested(self, Member* member) except -1:
        """An object or array as a value: check it and keep its minified text."""
        cdef size_t start = self.scratch_used
        cdef int refusal = self.nested_value(1 if self.literal else 2)
        if refusal:
            return refusal
        member.kind = JSON
        member.text = self.scratch + start
        member.text_bytes = <uint32_t>(self.scratch_used - start)
        return GOOD

    cdef inline void emit(self, const uint8_t* start, const uint8_t* stop) noexcept:
        memcpy(self.scratch + self.scratch_used, start, stop - start)
        self.scratch_used += stop - start

    cdef int nested_value(self, uint32_t depth) except -1:
        """One value inside a nested one, copied without white space. Recursion ends at the depth limit."""
        cdef const uint8_t* start = self.at
        cdef const char* text = NULL
        cdef uint32_t length = 0
        cdef size_t used
        cdef uint8_t close
        cdef int refusal
        cdef Member ignored
        if self.at == self.end:
            return BAD_JSON
        if start[0] != c"{" and start[0] != c"[":
            used = self.scratch_used
            refusal = self.json_member_value(&ignored)
            if refusal:
                return refusal
            self.scratch_used = used        # an unescaped string, a literal: the source's own bytes are kept
            self.emit(start, self.at)
            return GOOD
        # Beyond the configured depth, or beyond what the C stack is good for when limits are off.
        if depth > self.depth_max or depth > 2000:
            return TOO_DEEP
        close = c"}" if start[0] == c"{" else c"]"
        self.at += 1
        self.emit(start, self.at)
        self.space()
        if self.at < self.end and self.at[0] == close:
            self.at += 1
            self.emit(self.at - 1, self.at)
            return GOOD
        while True:
            if close == c"}":
                if self.at == self.end or self.at[0] != c'"':
                    return BAD_JSON
                start = self.at
                used = self.scratch_used
                refusal = self.json_string(&text, &length)
                if refusal:
                    return refusal
                self.scratch_used = used
                self.emit(start, self.at)
                self.space()
                if self.at == self.end or self.at[0] != c":":
                    return BAD_JSON
                self.at += 1
                self.emit(self.at - 1, self.at)
                self.space()
            refusal = self.nested_value(depth + 1)
            if refusal:
                return refusal
            self.space()
            if self.at == self.end or (self.at[0] != close and self.at[0] != c","):
                return BAD_JSON
            start = self.at
            self.at += 1
            self.emit(start, self.at)
            if start[0] == close:
                return GOOD
            self.space()

    # ---- the v1 form

    cdef int form(self) except -1:
        """``v=..&v2=..&v3=..&v4=..`` (contract 2.4): members value1..value4, numbers where they look like it."""
        cdef const uint8_t* at = self.at
        cdef const uint8_t* stop
        cdef const uint8_t* equals
        cdef uint8_t* out
        cdef uint8_t* first
        cdef int which, refusal, high, low, width
        cdef Member* member
        while at < self.end:
            stop = at
            equals = NULL
            while stop < self.end and stop[0] != c"&":
                if equals == NULL and stop[0] == c"=":
                    equals = stop
                stop += 1
            which = form_key(at, equals) if equals != NULL else 0
            if which:
                first = out = <uint8_t*>self.scratch + self.scratch_used
                at = equals + 1
                while at < stop:
                    if at[0] == c"+":
                        out[0] = 32
                    elif at[0] == c"%" and stop - at >= 3 and hex_digit(at[1]) >= 0 and hex_digit(at[2]) >= 0:
                        high, low = hex_digit(at[1]), hex_digit(at[2])
                        out[0] = high * 16 + low
                        at += 2
                    else:
                        out[0] = at[0]
                    out += 1
                    at += 1
                self.scratch_used += out - first
                while first < out and is_blank(first[0]):
                    first += 1
                while first < out and is_blank((out - 1)[0]):
                    out -= 1
                at = first
                while at < out:
                    width = 1 if at[0] < 0x80 else utf8_length(at, out)
                    if width == 0:
                        return BAD_FORM
                    at += width
                member = self.push()
                member.name = FORM_NAMES + 6 * (which - 1)
                member.name_bytes = 6
                refusal = form_number(self, member, first, out)
                if refusal:
                    member.kind = TEXT
                    member.text = <const char*>first
                    member.text_bytes = <uint32_t>(out - first)
            at = stop + 1
        return GOOD if self.count else BAD_FORM

    cdef void binary(self, const uint8_t* payload, uint32_t length) except *:
        """Lower-case hex without separators (contract 8, gap 6)."""
        cdef uint32_t i
        cdef Member* member = self.push()
        self.literal = True
        for i in range(length):
            self.scratch[2 * i] = HEX[payload[i] >> 4]
            self.scratch[2 * i + 1] = HEX[payload[i] & 15]
        self.scratch_used = 2 * <size_t>length
        member.name = b""
        member.name_bytes = 0
        member.kind = TEXT
        member.text = self.scratch
        member.text_bytes = 2 * length


cdef int form_key(const uint8_t* at, const uint8_t* stop) noexcept:
    """1 to 4 for v, v2, v3, v4; 0 for a field that v1 does not know."""
    if stop - at == 1 and at[0] == c"v":
        return 1
    if stop - at == 2 and at[0] == c"v" and c"2" <= at[1] <= c"4":
        return at[1] - 48
    return 0


cdef inline bint is_blank(uint8_t byte) noexcept:
    return byte == 32 or 9 <= byte <= 13


cdef int form_number(Decoder decoder, Member* member, const uint8_t* at, const uint8_t* end) except -1:
    """``[+-]?(D+ .? D* | . D+)([eE][+-]?D+)?`` and finite; anything else is text. 0 when it is a number."""
    cdef const uint8_t* start
    cdef uint32_t digits = 0
    if at < end and at[0] == c"+":
        at += 1
        if at < end and at[0] == c"-":
            return BAD_FORM
    start = at
    if at < end and at[0] == c"-":
        at += 1
    while at < end and 48 <= at[0] <= 57:
        at += 1
        digits += 1
    if at < end and at[0] == c".":
        at += 1
        while at < end and 48 <= at[0] <= 57:
            at += 1
            digits += 1
    if digits == 0:
        return BAD_FORM
    if at < end and (at[0] == c"e" or at[0] == c"E"):
        at += 1
        if at < end and (at[0] == c"+" or at[0] == c"-"):
            at += 1
        if at == end or not 48 <= at[0] <= 57:
            return BAD_FORM
        while at < end and 48 <= at[0] <= 57:
            at += 1
    if at != end:
        return BAD_FORM
    return decimal(decoder, member, start, end)


cdef int decimal(Decoder decoder, Member* member, const uint8_t* start, const uint8_t* end) except -1:
    """The value of a decimal whose grammar has been checked: NUMBER, INTEGER, or JSON for a longer integer."""
    cdef const uint8_t* at = start
    cdef bint negative = at[0] == c"-", integral = True, exact = True
    cdef uint64_t mantissa = 0
    cdef int64_t scale = 0, exponent = 0
    cdef bint exponent_negative = False
    cdef double number
    cdef char* copy
    if negative:
        at += 1
    while at < end and at[0] != c"e" and at[0] != c"E":
        if at[0] == c".":
            integral = False
        else:
            if mantissa <= (<uint64_t>0xFFFFFFFFFFFFFFFF - 9) // 10:
                mantissa = mantissa * 10 + (at[0] - 48)
                if not integral:
                    scale -= 1
            else:
                exact = False
        at += 1
    if at < end:
        integral = False
        at += 1
        if at[0] == c"+" or at[0] == c"-":
            exponent_negative = at[0] == c"-"
            at += 1
        while at < end:
            # Held at more than a payload has digits, so that no scale can bring it back.
            if exponent < EXPONENT_HELD:
                exponent = exponent * 10 + (at[0] - 48)
            at += 1
        scale += -exponent if exponent_negative else exponent
    if integral:
        if exact and mantissa <= <uint64_t>EXACT:
            member.kind = NUMBER
            number = <double>mantissa
            member.bits = bits_of(-number if negative and mantissa else number)
            return GOOD
        if exact and mantissa <= <uint64_t>0x7FFFFFFFFFFFFFFF + negative:
            member.kind = INTEGER
            member.bits = <uint64_t>0 - mantissa if negative else mantissa
            return GOOD
        # Longer than int64: keep the digits. Leading zeros (a form's) are not JSON.
        at = start + negative
        while end - at > 1 and at[0] == 48:
            at += 1
        copy = decoder.scratch + decoder.scratch_used
        if negative:
            copy[0] = c"-"
        memcpy(copy + negative, at, end - at)
        member.kind = JSON
        member.text = copy
        member.text_bytes = <uint32_t>(end - at) + negative
        decoder.scratch_used += member.text_bytes
        return GOOD
    if exact and mantissa <= <uint64_t>EXACT and -22 <= scale <= 22:
        number = <double>mantissa
        number = number / POWERS[-scale] if scale < 0 else number * POWERS[scale]
        if negative:
            number = -number
    else:
        copy = decoder.scratch + decoder.scratch_used
        memcpy(copy, start, end - start)
        copy[end - start] = 0
        number = PyOS_string_to_double(copy, NULL, NULL)
        if number - number != 0:
            return OUT_OF_RANGE
    member.kind = NUMBER
    member.bits = bits_of(number)
    return GOOD


def decode(kind, const unsigned char[::1] payload, json_depth_max=0xFFFFFFFF, key_bytes_max=0xFFFFFFFF):
    """One payload as Python values, for tests and tools: ``(literal, [(name, kind, value), ...])`` or a Refusal.

    Members stand in the order sent, duplicates included. JSON cells are text.
    """
    cdef Decoder decoder = Decoder(json_depth_max, key_bytes_max)
    cdef uint32_t i
    cdef Member* member
    cdef double number
    cdef int refusal = decoder.decode(kind, &payload[0] if len(payload) else NULL, <uint32_t>len(payload))
    if refusal:
        return Refusal(refusal)
    members = []
    for i in range(decoder.count):
        member = &decoder.members[i]
        if member.kind == NUMBER:
            memcpy(&number, &member.bits, 8)
            value = number
        elif member.kind == INTEGER:
            value = <int64_t>member.bits
        elif member.kind == BOOLEAN:
            value = bool(member.bits)
        else:
            value = member.text[:member.text_bytes].decode()
        members.append((member.name[:member.name_bytes].decode(), Kind(member.kind), value))
    return decoder.literal, members
