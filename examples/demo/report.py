"""``report.json``: every figure of a run, for programs and for comparing runs."""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from demo.checks import repeats_are_announced
from demo.story import Outcome
from demo.watching import TOLD

LISTED = 50


def report(outcome: Outcome, phases: dict[str, float], failure: Exception | None) -> dict[str, Any]:
    """The report as JSON types."""
    watch, evidence = outcome.watch, outcome.evidence
    return {
        "holds": failure is None and outcome.holds,
        "failure": None if failure is None else str(failure),
        "settings": dataclasses.asdict(outcome.settings),
        "languages": outcome.languages,
        "versions": outcome.versions,
        "phases_s": {name: round(took_s, 2) for name, took_s in phases.items()},
        "total_s": round(sum(phases.values()), 2),
        "cpus": os.cpu_count(),
        "load": outcome.load,
        "stream": outcome.stream,
        "faults": [
            {
                "name": fault.name,
                "title": fault.title,
                "began_s": None if fault.begun_s is None else round(fault.begun_s - outcome.stream_began_s, 2),
                "ended_s": None if fault.ended_s is None else round(fault.ended_s - outcome.stream_began_s, 2),
            }
            for fault in outcome.faults
        ],
        "worker_events": {} if watch is None else {name: watch.events[name] for name in TOLD},
        "dead_letter_groups": outcome.groups,
        "replay": outcome.replay,
        "effects": {} if evidence is None else dict(Counter(effect.kind for effect in evidence.effects)),
        "repeats": {} if evidence is None else repeats_are_announced(evidence).counts,
        "checks": [
            {
                "name": verdict.name,
                "claim": verdict.claim,
                "holds": verdict.holds,
                "counts": verdict.counts,
                "offenders": len(verdict.offenders),
                "offenders_listed": verdict.offenders[:LISTED],
            }
            for verdict in outcome.verdicts
        ],
        "audit": {} if evidence is None else evidence.audit,
    }


def write_report(path: Path, outcome: Outcome, phases: dict[str, float], failure: Exception | None) -> None:
    """Write it as one line of JSON."""
    path.write_text(json.dumps(report(outcome, phases, failure), ensure_ascii=False) + "\n", encoding="utf-8")
