"""How many users at a time: controllers that see requests and decide, and what moves users."""
