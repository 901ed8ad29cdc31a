"""Runs on clips that no memory holds: read, encoded, inverted, edited and written chunk by chunk."""
