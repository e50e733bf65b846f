"""Doubles to decimals: the shortest text that reads back as the same double.

Schubfach: Raffaello Giulietti, "The Schubfach way to render doubles", 2020. For a double c * 2**q the interval of reals
that round to it is scaled by a power of ten, so that its length is between 1 and 10 or so; one or two integers remain
to choose from. The scaling needs 10**k in 126 bits, rounded up; Python computes the table when the module is loaded.

Sensors mostly send short decimals, and those have a shorter way: if v * 10**4 is nearly the integer d, and d / 10**4
gives v back, then d e-4 without its trailing zeros is the answer. Division is correctly rounded, so this guesses
nothing (Clinger, "How to read floating point numbers accurately", 1990), and no other decimal of at most 15 digits
reads back as v.
"""

from libc.math cimport fabs
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    typedef unsigned __int128 thingscale_uint128;
    """
    ctypedef unsigned long long uint128 "thingscale_uint128"

# 10**k for k in [K_MIN, K_MAX], as 128 bits with the highest one set, rounded up.
cdef enum:
    K_MIN = -292
    K_MAX = 324
    K_COUNT = K_MAX - K_MIN + 1

cdef uint64_t POWER_HIGH[K_COUNT]
cdef uint64_t POWER_LOW[K_COUNT]


def _fill_tables():
    for k in range(K_MIN, K_MAX + 1):
        if k >= 0:
            power = 10**k
            shift = power.bit_length() - 128
            scaled = power << -shift if shift <= 0 else -(-power >> shift)
        else:
            # ceil(2**s / 10**-k) with s such that the quotient has 128 bits
            divisor = 10**-k
            shift = divisor.bit_length() + 127
            scaled = -(-(1 << shift) // divisor)
            if scaled.bit_length() > 128:
                scaled = -(-(1 << (shift - 1)) // divisor)
        POWER_HIGH[k - K_MIN] = scaled >> 64
        POWER_LOW[k - K_MIN] = scaled & 0xFFFFFFFFFFFFFFFF


_fill_tables()


cdef inline uint64_t round_to_odd(uint64_t high, uint64_t low, uint64_t factor) noexcept nogil:
    """The high part of a 192-bit product, its last bit set if anything was cut off."""
    cdef uint128 lower = <uint128>low * factor
    cdef uint128 upper = <uint128>high * factor + <uint64_t>(lower >> 64)
    return <uint64_t>(upper >> 64) | (<uint64_t>upper > 1)


cdef uint64_t schubfach(uint64_t fraction, int exponent, int *power) noexcept nogil:
    """Digits and power of ten of the shortest decimal; of several the closest one. Section 9.9 of the paper."""
    cdef uint64_t c, lower, upper, below, middle, above, s, tens
    cdef int q, k, h, index
    cdef bint is_odd, is_narrow, lower_is_in, upper_is_in
    if exponent:
        c, q = fraction | (<uint64_t>1 << 52), exponent - 1075
    else:
        c, q = fraction, -1074
    is_odd = c & 1
    # Below a power of two the doubles lie twice as close.
    is_narrow = fraction == 0 and exponent > 1
    k = (q * 1262611 - (524031 if is_narrow else 0)) >> 22  # floor(log10(2**q)), or of 3/4 of it
    h = q + ((-k * 1741647) >> 19) + 1  # 1741647 / 2**19 is log2(10)
    index = -k - K_MIN
    below = round_to_odd(POWER_HIGH[index], POWER_LOW[index], (4 * c - 2 + is_narrow) << h)
    middle = round_to_odd(POWER_HIGH[index], POWER_LOW[index], (4 * c) << h)
    above = round_to_odd(POWER_HIGH[index], POWER_LOW[index], (4 * c + 2) << h)
    # The bounds themselves round to c only if c is even.
    lower, upper = below + is_odd, above - is_odd
    s = middle >> 2
    if s >= 10:
        tens = s // 10
        lower_is_in = lower <= 40 * tens
        upper_is_in = 40 * tens + 40 <= upper
        if lower_is_in != upper_is_in:
            power[0] = k + 1
            return tens + upper_is_in
    power[0] = k
    lower_is_in = lower <= 4 * s
    upper_is_in = 4 * s + 4 <= upper
    if lower_is_in != upper_is_in:
        return s + upper_is_in
    # Both are in: the closer one, on a tie the even one.
    if middle > 4 * s + 2 or (middle == 4 * s + 2 and s & 1):
        return s + 1
    return s


cdef inline int write_digits(uint64_t digits, uint8_t *out) noexcept nogil:
    """Decimal digits, and how many."""
    cdef uint8_t backwards[20]
    cdef int count = 0, i
    while True:
        backwards[count] = <uint8_t>(48 + digits % 10)
        digits //= 10
        count += 1
        if digits == 0:
            break
    for i in range(count):
        out[i] = backwards[count - 1 - i]
    return count


cdef inline int write_short(uint32_t digits, uint8_t *out) noexcept nogil:
    """digits / 10**4 without trailing zeros."""
    cdef uint32_t whole = digits // 10000, rest = digits % 10000
    cdef int count = 1 + (whole >= 10) + (whole >= 100) + (whole >= 1000) + (whole >= 10000), i, places = 4
    for i in range(count - 1, 0, -1):
        out[i] = <uint8_t>(48 + whole % 10)
        whole //= 10
    out[0] = <uint8_t>(48 + whole)
    if rest == 0:
        return count
    while rest % 10 == 0:
        rest //= 10
        places -= 1
    out[count] = 46
    for i in range(count + places, count, -1):
        out[i] = <uint8_t>(48 + rest % 10)
        rest //= 10
    return count + places + 1


cdef int write_decimal(uint64_t digits, int power, uint8_t *out) noexcept nogil:
    """digits * 10**power, in the notation that Python's repr chooses."""
    cdef uint8_t text[20]
    cdef int count, point, size = 0, exponent
    while digits and digits % 10 == 0:
        digits //= 10
        power += 1
    count = write_digits(digits, text)
    point = count + power  # where the decimal point is, counted in digits
    if -4 < point <= 16:
        if power >= 0:
            memcpy(out, text, count)
            while count < point:
                out[count] = 48
                count += 1
            return count
        if point > 0:
            memcpy(out, text, point)
            out[point] = 46
            memcpy(out + point + 1, text + point, count - point)
            return count + 1
        out[0], out[1] = 48, 46
        size = 2
        while point < 0:
            out[size] = 48
            size += 1
            point += 1
        memcpy(out + size, text, count)
        return size + count
    out[0] = text[0]
    size = 1
    if count > 1:
        out[1] = 46
        memcpy(out + 2, text + 1, count - 1)
        size = count + 1
    exponent = point - 1
    out[size] = 101  # e
    out[size + 1] = 45 if exponent < 0 else 43
    size += 2
    if exponent < 0:
        exponent = -exponent
    if exponent < 10:
        out[size] = 48
        size += 1
    return size + write_digits(exponent, out + size)


cdef int write_double(double value, uint8_t *out) noexcept nogil:
    """A finite double as a JSON number, at most DOUBLE_BYTES_MAX bytes; how many."""
    cdef uint64_t bits, digits
    cdef int size = 0, power = 0
    cdef double magnitude
    cdef uint32_t short
    memcpy(&bits, &value, 8)
    if bits >> 63:
        out[0] = 45
        size = 1
        bits &= (<uint64_t>1 << 63) - 1
    if bits == 0:
        if size:
            # Minus zero keeps its sign, and needs a fraction to be read back as a float.
            memcpy(out, b"-0.0", 4)
            return 4
        out[0] = 48
        return 1
    magnitude = fabs(value)
    if 1e-3 <= magnitude < 1e5:
        short = <uint32_t>(magnitude * 1e4 + 0.5)
        if short / 1e4 == magnitude:
            return size + write_short(short, out + size)
    digits = schubfach(bits & ((<uint64_t>1 << 52) - 1), <int>(bits >> 52), &power)
    return size + write_decimal(digits, power, out + size)


def shortest(double value):
    """The text of a double; see the stub."""
    cdef uint8_t out[32]
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError("JSON has no nan and no infinity")
    cdef int size = write_double(value, out)
    return (<char *>out)[:size]
