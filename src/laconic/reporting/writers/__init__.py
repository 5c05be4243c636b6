"""A comparison as files and as text for a terminal; `laconic.reporting.page` writes the HTML page.

- `text`: plain text for a terminal. `terminal`: sets tables to its width.
- `markdown`, `json`, `csv`, `latex`: one format each.
- `stills`: charts as PNG and SVG.
"""
