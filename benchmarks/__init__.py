"""Speed as ratios against a stated baseline, measured in one run: `python -m benchmarks [NAME ...]`, or `make bench`.

Nothing here fails when a target is missed: a busy machine must not break a build. The table says it, and people judge.
"""
