"""Run folders become tables, pictures and pages.

- `report`: from folders to text or files. Start here.
- `runs`, `data`: the runs read and compared. `checks`, `incomparable`: what must be said of them.
- `tables`, `details`, `layouts`, `wording`, `families`, `published`: tables as values.
- `charts`, `curves`, `history`: charts as values.
- `text`, `terminal`, `latex`, `sheet`, `page`, `figures`, `picture`: how they are drawn.
- `drawing`, `labels`, `palette`: Matplotlib figures, placement of labels, colours.
"""
