"""The environments, one folder each: `__init__.py` declares it, `env.py` plays it, `behaviour.py` collects its data.

Importing a folder makes its id known to Gymnasium, which has loaded no plug-ins by itself since 1.0:

```python
gymnasium.make("envs.wordle:qsft_bench/Wordle-v0", observation="bound", action="word")
```
"""

from __future__ import annotations


def register(env_id: str, entry_point: str) -> None:
    """Tell Gymnasium, once, that `env_id` is made by `entry_point` (`module:Class`, imported when one is first made).

    Does nothing where Gymnasium is not installed: training on a bare GPU machine reads declarations and plays nothing.
    """
    try:
        import gymnasium
    except ImportError:
        return
    if env_id not in gymnasium.registry:
        gymnasium.register(env_id, entry_point=entry_point)
