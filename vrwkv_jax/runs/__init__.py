"""A run and its directory: every file in it, how it is made, kept, and gone on with."""
