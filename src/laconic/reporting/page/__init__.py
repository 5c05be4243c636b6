"""The report as one HTML page with its data inside.

- `build`: the page. Start here. `answers`: the answers shown beside each other.
- `chart_data`: charts as JSON for ``charts.js``, which draws them with plotly.js.
- `markup`: values as HTML, escaped.
"""
