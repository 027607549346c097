"""ALFWorld: household tasks in text, on the real engine.

`engine.py` drives TextWorld's grammar and Fast Downward's simulator, `games.py` has the games, `env.py` plays them, `render.py`
draws what the text has revealed, `behaviour.py` collects the data, `declaration.py` drafts the declaration. The folder's name
begins with `_`, so that the registry does not take it for a finished environment.
"""
