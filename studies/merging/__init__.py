"""The study of merging: the tables and questions of Wu et al. 2025, asked of the lab.

- `study`: everything that is measured. Start here. `menu`: the recipes, by method.
- `calibrations`: the statistics that some methods read. `second_system2`: trains another System 2.
- `page`, `pictures`: the page that it writes.
"""
