"""Traces of jobs: what is noted of each, which are kept, and the spans that are made of them."""
