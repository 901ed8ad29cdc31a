"""What checks types in the tests: beartype, for which an int will do where a float is meant, as for mypy (PEP 484)."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
