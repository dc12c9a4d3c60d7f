"""`python -m benchmarks.miniature`; see [`benchmarks.miniature.build`]."""

from benchmarks.miniature.build import main

main()
