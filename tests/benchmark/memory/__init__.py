"""What a conversation takes, by part, and whether memory stays flat over very many requests."""
