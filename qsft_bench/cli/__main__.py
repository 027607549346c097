"""`python -m qsft_bench.cli`, as `accelerate launch -m` calls it."""

from qsft_bench.cli import main

main()
