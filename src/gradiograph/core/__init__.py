"""The nouns: what crosses the rooms. This package imports nothing, so that its record half runs without torch."""
