def shortest(value: float) -> bytes:
    """The shortest decimal that reads back as this double, as a JSON number; integral values without a fraction.

    Raises ValueError for nan and infinities, which JSON does not have.
    """
