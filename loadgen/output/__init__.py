"""What a run leaves behind for people and machines: files, a page, thresholds."""
