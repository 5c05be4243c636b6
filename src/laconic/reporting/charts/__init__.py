"""The charts of a report, one file each: values that the page and the still pictures both draw.

A file holds a function that yields its charts, decorated with `task_chart` or `history_chart` of
`contract`. Nothing else is to be edited: the page, ``--figures`` and the contract tests find it
here, and charts of other packages in the entry-point group ``laconic.charts``.
"""
