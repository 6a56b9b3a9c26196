"""Champion and challenger: the evaluation between them, the alias, its approval."""
