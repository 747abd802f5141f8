"""The generator of the documentation's site: `make docs`, or `python -m docs.generator`.

The site is built by Zensical, which the authors of Material for MkDocs wrote to succeed it: MkDocs
has had no release since 1.6.1 of August 2024, and Material's maintenance ended on 5 November 2026.
Zensical runs no plugins of ours, so what is generated is written as Markdown beforehand:

parts            tables, drawings and sections of other documents that pages ask for by name
task_pages       a page for each task, from its file and its recipe
command_pages    a page for each command, from the parsers
python_page      the Python interface, from its signatures and docstrings
study_pages      a page for each study
repository_pages documents of the repository, with their links turned to the site's pages
pages            all of these together: path → Markdown, and the navigation
shown_code       the commands and the Python that pages show, held against the real parsers
built_site       the links, anchors and outside addresses of the HTML that was built
"""
