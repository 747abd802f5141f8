"""Bundles: modules made ready to share, hubs and folders they lie in, and how a received one is
verified.
"""
