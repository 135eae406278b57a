"""A simulated cluster under real or generated traffic."""
