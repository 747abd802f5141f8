"""What every other wing stands on: errors, files, statistics, hardware, files of strangers.

`errors` is the tree of exceptions and the nearest valid name; `files` writes canonical JSON and
whole files or none, with the permissions of the umask; `locks` keeps processes apart; `signals`
ends a process cleanly; `typed_json` reads and writes dataclasses as JSON; `statistics` gives
t-intervals over seeds; `machine`, `process_memory` and `energy` describe and measure the hardware;
`hub` asks the hub; `untrusted` reads what others wrote within limits.
"""
