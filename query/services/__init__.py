"""The REST services of the contract, one module each."""
