"""The leaderboard: from the records and logits of a results folder to statistics, tables, pictures, pages and exports.

`board.load_board` makes a board of a folder; `files.write` writes its files, `files.check` says whether they are up to
date. `columns` lists what a table has, for every page, export and frame.
"""
