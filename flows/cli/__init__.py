"""The `quartet` command, one module a family of commands."""
