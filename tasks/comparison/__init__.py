"""Runs side by side: their data, statistics, plots and the page."""
