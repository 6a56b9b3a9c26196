"""This machine: servers and who watches them, processes that live or died, time limits."""
