"""SQL that people type, in processes that can do nothing else (architecture 7)."""
