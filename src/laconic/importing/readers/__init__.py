"""The log formats, one file each.

A file assigns its `laconic.importing.contract.LogFormat` to ``FORMAT``; that class says what a
format declares. `laconic.importing.formats` finds every file here and the formats of other packages
in the entry-point group ``laconic.log_formats``. A log is of the first format that recognises it.
"""
