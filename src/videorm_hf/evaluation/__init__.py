"""Judging rewards by people's labels: metrics, scores kept on disk, reports, best-of-n and robustness."""
