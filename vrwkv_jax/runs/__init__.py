"""A run and its directory: every file in it, how it is made, and how an interrupted run is resumed."""
