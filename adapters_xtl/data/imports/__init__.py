"""Data in its publishers' own forms → a mirror: `ccgbank.convert` and `xtreme.convert` (`xtl data
import`).
"""
