"""Built-in stations."""
