"""The operator side of the server: what it shows and what it lets be done."""
