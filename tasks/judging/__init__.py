"""Whoever scores or compares completions, behind one interface."""
