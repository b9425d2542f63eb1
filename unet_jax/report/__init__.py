"""HTML pages: the report of a run and the page of a data set inspection.

`contents` holds the data of a page, `figures` draws them, `render` fills the templates.
A page is one file that loads nothing else. The same contents give the same bytes.
"""
