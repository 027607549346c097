"""An arm at a counter: what pick-place and drawer-grasp share, after COG (Singh et al. 2020), on PyBullet.

`actions.py` says what an action is, `layout.py` where things stand, `world.py` simulates and draws, `env.py` and `behaviour.py`
are what the environments and their players have in common, `declaration.py` what their declarations have. The folder's name
begins with `_`, so that the registry does not take it for an environment.
"""
