"""The contents of an inspection: statistics, examples, and the text of the terminal."""
