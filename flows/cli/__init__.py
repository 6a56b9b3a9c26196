"""The `quartet` command, one module per family of commands."""
