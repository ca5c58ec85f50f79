"""What the HTML reports show, as plain typed data: a history and its documents in, frozen dataclasses out.

Each folder is a page, and its `page.py` lists all that the page holds. What several pages show stands beside the folders.
"""
