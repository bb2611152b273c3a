"""The end of what sends to a collector, which may be away, hung or slow."""

import threading
from collections.abc import Callable

CLOSE_LIMIT_S = 2.0
"""How long the last measurements and spans may take to be sent when a process ends."""


def close_in_time(close: Callable[[], object], give_up: Callable[[], object]) -> None:
    """Call `close`, which sends what is left, for at most CLOSE_LIMIT_S; then `give_up`, which ends
    its attempts."""
    closing = threading.Thread(target=close, daemon=True)
    closing.start()
    closing.join(CLOSE_LIMIT_S)
    if closing.is_alive():
        give_up()
