"""Which topics are served now, and which wait for their turn."""

from collections.abc import Iterable

from gateway.replies.waiting import WaitingTopic

WORKING_SLOTS = 16
FAILING_SLOTS = 2


class Turns:
    """Topics take turns. Those that failed have slots of their own, so the others never wait there.

    A topic that begins to fail occupies one of the others' slots until its timeout, once.
    """

    def __init__(self) -> None:
        self._queues: dict[bool, dict[str, None]] = {False: {}, True: {}}
        self._serving: dict[bool, set[str]] = {False: set(), True: set()}

    def offer(self, topics: Iterable[WaitingTopic]) -> None:
        """Queue those that are due, unless they are queued or served already."""
        for topic in topics:
            if topic.due and not self._knows(topic.name):
                self._queues[topic.failing][topic.name] = None

    def start(self) -> list[str]:
        """The topics whose turns begin now. Each has to be `finish`ed."""
        started = []
        for failing, slots in ((False, WORKING_SLOTS), (True, FAILING_SLOTS)):
            queue, serving = self._queues[failing], self._serving[failing]
            while queue and len(serving) < slots:
                name = next(iter(queue))
                del queue[name]
                serving.add(name)
                started.append(name)
        return started

    def finish(self, name: str) -> None:
        """The turn of a topic has ended."""
        for serving in self._serving.values():
            serving.discard(name)

    @property
    def wants_more(self) -> bool:
        """Whether a topic that works could start right away, if there were one."""
        return not self._queues[False] and len(self._serving[False]) < WORKING_SLOTS

    def _knows(self, name: str) -> bool:
        return any(name in each for each in (*self._queues.values(), *self._serving.values()))
