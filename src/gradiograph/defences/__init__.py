"""Room defences."""
