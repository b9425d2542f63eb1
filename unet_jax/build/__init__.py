"""Config -> objects; nothing below this folder knows what a config is."""
