"""The pages of the leaderboard: Markdown and HTML."""
