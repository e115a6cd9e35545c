"""Letters of an exported file: what it holds goes back, also where the dead-letter topic has lost it since."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from broker_bridge.core.dead_letter import DeadLetter
from broker_bridge.core.identity import claim_key
from broker_bridge.core.letter_filter import DecodeFields, NotCompared, Verdict, where_of
from broker_bridge.core.letters import Selection, letter_state
from broker_bridge.core.replay_plan import FILE
from broker_bridge.errors import PlanRefusedError, UsageError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.replay.claims import with_claims
from broker_bridge.replay.export import ExportedFile
from broker_bridge.replay.route import ReplayRoute
from broker_bridge.replay.sources.base import Candidate, Numbered

_BATCH = 500


class FileSource:
    """``LetterSource`` of an export. Use ``FileSource.open``."""

    def __init__(
        self,
        file: ExportedFile,
        *,
        store: IdempotencyStore,
        route: ReplayRoute,
        selection: Selection | None = None,
        decode: DecodeFields | None = None,
    ) -> None:
        self._file = file
        self._store = store
        self._route = route
        self._selection = selection or Selection()
        self._decode = decode
        self.not_compared = NotCompared()

    @classmethod
    @contextlib.contextmanager
    def open(
        cls,
        path: Path,
        *,
        store: IdempotencyStore,
        route: ReplayRoute,
        selection: Selection | None = None,
        decode: DecodeFields | None = None,
        sha256: str = "",
    ) -> Iterator[FileSource]:
        """Open and check the file, which must have that hash where one is given. Raises ``NotFoundError``,
        ``ExportInvalidError``, and ``PlanRefusedError`` for the letters of another group."""
        with ExportedFile.open(path) as file:
            if sha256 and file.end.sha256 != sha256:
                raise PlanRefusedError(
                    "this is not the file that the plan was made from: its hash is another",
                    where=str(path),
                    remedy="put that file back, or make a new plan of this one",
                )
            for what, found, ours in (
                ("group", file.header.group, route.group),
                ("source topic", file.header.topic, route.topic),
            ):
                if found != ours:
                    raise PlanRefusedError(
                        f"the file holds dead letters of {what} {found!r}, route {route.name!r} has {ours!r}",
                        where=str(path),
                        remedy="name the route that they are of with --route",
                    )
            yield cls(file, store=store, route=route, selection=selection, decode=decode)

    @property
    def described(self) -> Mapping[str, Any]:
        """See ``LetterSource.described``."""
        return {"kind": FILE, "path": str(self._file.path.resolve()), "sha256": self._file.end.sha256}

    @property
    def selection(self) -> Mapping[str, Any]:
        """See ``LetterSource.selection``."""
        return self._selection.as_json()

    async def until(self) -> dict[str, int]:
        """See ``LetterSource.until``."""
        return {}

    async def select(self) -> AsyncGenerator[list[Candidate], None]:
        """See ``LetterSource.select``."""
        route, any_state = self._route, not self._selection.states
        found = self._chosen()
        looked_up = with_claims(
            found,
            key_of=lambda filed: claim_key(filed[1].idempotency_key, namespace=route.topic),
            store=self._store,
            group=route.group,
        )
        async with aclosing(found), aclosing(looked_up):
            async for batch in looked_up:
                candidates = [
                    Candidate(letter, letter_state(letter, claim), claim, at) for (at, letter), claim in batch
                ]
                yield [one for one in candidates if any_state or self._selection.matches_state(one.state)]

    async def letters(
        self, wanted: AsyncIterator[Sequence[Numbered]]
    ) -> AsyncGenerator[list[tuple[Numbered, DeadLetter | None]], None]:
        """See ``LetterSource.letters``."""
        async for items in wanted:
            for first in range(0, len(items), _BATCH):
                yield [(one, self._file.read_at(one.item.at)) for one in items[first : first + _BATCH]]

    async def check(self) -> None:
        """See ``LetterSource.check``: it was checked when it was opened."""

    async def _chosen(self) -> AsyncGenerator[list[tuple[int, DeadLetter]], None]:
        tests, where, decode = self._selection.tests(), self._selection.where, self._decode
        if where and decode is None:
            raise UsageError("values are not decoded here, so that --where cannot look at them", where="--where")
        held: list[tuple[int, DeadLetter]] = []
        for filed in self._file.letters():
            letter = filed.letter
            if not all(test(letter) for test in tests):
                continue
            if where and decode is not None and not self._is_meant(letter, where, decode):
                continue
            held.append((filed.at, letter))
            if len(held) >= _BATCH:
                yield held
                held = []
        if held:
            yield held

    def _is_meant(self, letter: DeadLetter, where: str, decode: DecodeFields) -> bool:
        judged = where_of(where).judge(letter, decode)
        if judged.error is not None:
            self.not_compared.count(letter, judged)
        return judged.verdict is Verdict.YES
