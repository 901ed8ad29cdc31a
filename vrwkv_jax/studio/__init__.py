"""The studio: what its page is made of."""
