"""Methods compared over a grid of cells: executed, tuned alike, summed up over seeds, forecast."""
