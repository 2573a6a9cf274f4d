"""What an operator can change: one model, from which flags, files and pages are made."""
