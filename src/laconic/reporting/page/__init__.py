"""The report as one HTML page with its data inside.

- `build`: the page. Start here. `answers`: the answers shown beside each other.
- `markup`: values as HTML, escaped.
"""
