"""What each command does: a request in, a JSON-ready payload and something to print out. One file a
command.
"""
