"""The tables of a report as values; writers and the page only set them.

- `table`: what a table is. `main`: the tables of every report. Start here.
- `details`: the tables behind them. `published`: beside a paper's figures.
- `layouts`: one table in the layout of a paper.
"""
