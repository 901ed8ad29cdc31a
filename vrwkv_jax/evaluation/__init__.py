"""How good an edit is, measured against rendered scenes of which the truth is known."""
