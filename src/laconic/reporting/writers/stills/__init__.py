"""Charts as still pictures for papers, PNG and SVG, drawn by Matplotlib from the charts' values.

- `draw`: a chart as a figure, and figures as files. Start here.
- `points`, `plots`: the panels of a chart with labelled points; of lines, bars and boxes.
- `canvas`: fonts, colours, frames, files. `labels`: where labels go.
"""
