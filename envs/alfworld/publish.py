"""Let the expert win every generated game, then write what the splits hold into `splits.json`.

```
python -m envs.alfworld.publish        # ten minutes of one core
```
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from envs.alfworld.behaviour import Expert
from envs.alfworld.engine import VERSIONS, Engine, give_back, lease
from envs.alfworld.env import HORIZON, know
from envs.alfworld.games import GENERATED, Game, digest, games
from envs.alfworld.seen import Seen

PUBLISHED = Path(__file__).with_name("splits.json")


def moves_to_win(game: Game, engine: Engine) -> int | None:
    """How many commands the expert wins `game` in, each an admissible one, or None if it does not within the horizon."""
    expert, seen = Expert(), Seen()
    scene = engine.start(game)
    for turn in range(HORIZON):
        (command,) = expert.weights(know(game, engine, scene, seen))
        if command not in scene.admissible:
            return None
        scene = engine.step(command)
        if scene.won:
            return turn + 1
    return None


def main() -> None:
    """Check every game and write the file."""
    engine = lease()
    published: dict[str, Any] = {"versions": VERSIONS, "splits": {}}
    for split in GENERATED:
        those = list(games(split, "generated"))
        moves = {game.name: moves_to_win(game, engine) for game in those}
        lost = [name for name, count in moves.items() if count is None]
        if lost:
            raise SystemExit(f"the expert does not win {', '.join(lost)}")
        published["splits"][split] = {
            "games": len(those),
            "columns": Counter(game.column for game in those),
            "rooms": sorted({game.room for game in those}),
            "longest": max(count for count in moves.values() if count),
            "sha256": digest(those),
        }
        print(f"{split}: {len(those)} games, all won, in at most {published['splits'][split]['longest']} commands", flush=True)
    give_back(engine)
    PUBLISHED.write_text(json.dumps(published, indent=1) + "\n")


if __name__ == "__main__":
    main()
