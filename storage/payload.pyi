from storage.kinds import Kind, Refusal

def decode(
    kind: int, payload: bytes, json_depth_max: int = 0xFFFFFFFF, key_bytes_max: int = 0xFFFFFFFF
) -> tuple[bool, list[tuple[str, Kind, float | int | bool | str]]] | Refusal:
    """One payload as (literal, [(name, kind, value)]), duplicates included, or why it is refused."""
