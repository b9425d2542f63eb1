"""Files with which other programs predict without this package.

All writers take a `Pipeline`, the data of a prediction from raw pixels to the result.
"""
