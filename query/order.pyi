import numpy as np
from numpy.typing import NDArray

def time_order(at_us: NDArray[np.int64], seq: NDArray[np.int64], descending: bool) -> NDArray[np.int64]:
    """The positions of the rows, ordered by (at, seq), or the other way round. Releases the GIL."""
