"""Planted worlds, a module for each study: `TRUE`, where its claim holds, and `FALSE`."""
