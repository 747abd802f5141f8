"""Modules shared as bundles on hubs and in folders, verified before use, imported and exported."""
