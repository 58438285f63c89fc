"""The leaderboard: from the records and logits of a results folder to statistics, tables, pictures, pages and exports.

`board.load_board` makes a board of a folder; `files.write` writes its files, `files.check` tells whether they are up to
date.
"""
