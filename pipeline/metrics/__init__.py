"""What a monitoring system may ask of a run."""
