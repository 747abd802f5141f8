"""What is asked and what is kept: requests, settings, runs and their ids, the store of finished runs."""
