"""The corpus: one small file per case, named after what it is, one directory per language.

A directory serves several targets: what a client says over MQTT is packets to a decoder, and a conversation to the
reactor and to a live port. What a bug was found with stays here as one more case.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parent / "corpus"
# Larger inputs teach a fuzzer nothing that smaller ones do not, and take its time.
CASE_BYTES_MAX = 2_000
NAME_LENGTH_MAX = 100


def cases(language: str) -> dict[str, bytes]:
    """Every case of a language by name, in the names' order."""
    return {path.name: path.read_bytes() for path in sorted((ROOT / language).iterdir())}


def name_of(title: str) -> str:
    """A file's name for a case: what can stand in one everywhere."""
    return re.sub(r"[^a-z0-9+#$.]+", "-", title.lower()).strip("-.")[:NAME_LENGTH_MAX].rstrip("-.")
