"""Room attacks."""
