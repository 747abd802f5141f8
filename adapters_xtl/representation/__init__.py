"""Which features of a text its representation encodes: metric learning on parallel items.

What other wings use:

analysis  `RepresentationAnalysis`: what a study computes of a finished run's encoder (light)
record    what it keeps in the store, as typed data (light)

Below them: `parallel_items` (rows → units of several languages), `features` (distances between
units), `metric_learning` (weights and permutation importances), `similarity` (ranks, CKA, and
retrieval), `encoders` (vectors of units at every layer, also of random weights).
"""
