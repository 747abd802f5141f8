"""What is asked and what is kept: requests, settings, runs, the store of finished runs."""
