"""What several processes cost and what the hop between them takes."""
