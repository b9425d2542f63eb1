"""What an inspection has found, for the terminal, the page and JSON."""
