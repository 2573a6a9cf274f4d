"""A run in several processes: each plays its share of the conversations and tells one ledger."""
