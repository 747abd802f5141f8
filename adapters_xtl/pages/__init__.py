"""Tables and plots from the records that runs wrote."""
