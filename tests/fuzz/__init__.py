"""Fuzzing: every decoder and the live ports against arbitrary bytes. docs/fuzzing.md says how to run and extend it."""
