"""What every other wing stands on: errors, files, statistics, hardware, files of strangers.

`errors` is the tree of exceptions and the nearest valid name; `files` writes canonical JSON and
whole files or none; `statistics` gives t-intervals over seeds; `machine` and `energy` describe the
hardware; `untrusted` reads what others wrote within limits.
"""
