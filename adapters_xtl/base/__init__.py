"""What everything stands on: errors, files, statistics, the machine, reading untrusted files."""
