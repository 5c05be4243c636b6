"""Run folders become tables, charts and pages.

- `report`: from folders to text or files. Start here.
- `run_folders`: finds the runs. `comparison`: the runs compared. `families`: parents and merges.
- `checks`, `incomparable`: what a reader must be told of runs that were measured differently.
- `history`: how searches and trainings went. `published`: figures of papers.
- `tables`: tables as values. `charts`: charts as values, one file each.
- `writers`: text, Markdown, JSON, CSV, LaTeX, still pictures. `page`: the HTML page.
- `wording`: numbers and sentences, the same in every format. `styles`: colours and marks.
"""
