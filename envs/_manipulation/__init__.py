"""An arm at a counter: the simulation that pick-place and drawer-grasp share, after COG (Singh et al. 2020), on PyBullet.

`actions.py` says what an action is, `layout.py` where things stand, `world.py` simulates and draws, `env.py` plays both tasks,
`behaviour.py` collects their data. The folder's name begins with `_`, so that the registry does not take it for an environment.
"""
