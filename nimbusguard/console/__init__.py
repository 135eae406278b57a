"""The console: what was decided, why, and whether it was right, as a page and as JSON."""
