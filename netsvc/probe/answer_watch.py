"""Whether a target answers now, from what happened to its last probes."""

from __future__ import annotations

from dataclasses import dataclass

#: Probes in a row without an answer, after which a target counts as silent.
SILENT_AFTER = 3


@dataclass(frozen=True, slots=True)
class AnswerChange:
    """A target has stopped answering, or answers again.

    :ivar answers: whether it answers now.
    :ivar nanoseconds: since its last answer. If it never answered, since the start.
    :ivar missed: probes without an answer since then. If the target stopped answering: those that are known to be lost.
    :ivar answered: probes that were answered before, since it answered again for the last time; 0 if none ever was.
    """

    answers: bool
    nanoseconds: int
    missed: int
    answered: int


class AnswerWatch:
    """Finds the moments at which a target stops answering, and at which it answers again.

    A probe is known to be lost when its timeout has elapsed. By then, later ones may have been answered: only losses
    after the last answer count. Times are nanoseconds on a monotonic clock.

    :param now: the time of the start.
    :ivar answers: whether the last probes were answered; None before that is known.
    """

    def __init__(self, now: int) -> None:
        self.answers: bool | None = None
        self._since = now
        self._missed = 0
        self._missed_before = 0  # in earlier runs
        self._answered = 0
        self._last_answered = -1  # the sequence number

    def begin_run(self) -> None:
        """The sequence numbers begin again from 0."""
        self._missed_before += self._missed
        self._missed = 0
        self._last_answered = -1

    def answered(self, sequence: int, now: int) -> AnswerChange | None:
        """Take an answer. Return the change if the target was silent before."""
        if sequence < self._last_answered:  # it has been overtaken
            self._answered += 1
            return None
        change = None
        if self.answers is False:
            # An answer may come after its probe was taken for lost.
            missed = self._missed_before + max(sequence - self._last_answered, self._missed) - 1
            change = AnswerChange(True, now - self._since, missed, self._answered)
            self._answered = 0
        self.answers = True
        self._since = now
        self._missed = self._missed_before = 0
        self._answered += 1
        self._last_answered = sequence
        return change

    def missed(self, sequence: int, now: int) -> AnswerChange | None:
        """Take a probe that was lost or could not be sent. Return the change if the target counts as silent now."""
        if sequence < self._last_answered:
            return None
        self._missed += 1
        return self.silenced(now) if self._missed >= SILENT_AFTER else None

    def silenced(self, now: int) -> AnswerChange | None:
        """The target cannot be probed. Return the change if it was not silent before."""
        if self.answers is False:
            return None
        self.answers = False
        return AnswerChange(False, now - self._since, self._missed_before + self._missed, self._answered)
