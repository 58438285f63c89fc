"""The statistics of the leaderboard."""
