"""Why each token of a page and not its runner-up: what the page's script draws as bars, a column at a time."""

from collections.abc import Mapping, Sequence
from typing import Any

from layer_decoding.results.why import Why
from layer_decoding.views.why import largest, part_name, signed, sum_sentence


def why_data(whys: Sequence[Why], place: Mapping[int, int]) -> dict[str, Any]:
    """The parts' names, and for each step their numbers as they are written and as bars.

    `place` is where each token's text stands in the page's list. A bar is from -100 to 100: its share of the longest.
    """
    return {
        "parts": [part_name(part, why) for why in whys[:1] for part in why.parts],
        "steps": [
            {
                "against": place[why.against],
                "token": place[why.token],
                "difference": signed(why.difference),
                "logits": [signed(part.logit) for part in why.parts],
                "bars": _bars(why),
                "largest": [why.parts.index(part) for part in largest(why.parts)],
                "sum": sum_sentence(why),
            }
            for why in whys
        ],
    }


def _bars(why: Why) -> list[int]:
    most = max(abs(part.logit) for part in why.parts)
    return [round(100 * part.logit / most) if most else 0 for part in why.parts]
