"""De-identification of medical images, the scan for what is left, and the synthetic identifiers that score both."""
