"""Views: records in, Markdown and pictures out. Never part of a digest."""
