"""Training plans: config fields chosen by rules, and the measured cost of a step."""
