"""The inference backends, one file each, and in `contract` what a backend is.

A backend holds one model and turns samples into generations. `client` speaks to servers.
"""
