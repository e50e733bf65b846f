from storage.notes import Note

def encode(number: int, note: Note) -> bytes:
    """For tests: what is written of a note of one of the six sorts."""
