"""``broker-bridge replay``: plan which dead letters go back, run the plan, verify what came of it."""

from __future__ import annotations

import click

from broker_bridge.cli.replay_pause import pause, resume
from broker_bridge.cli.replay_plan import plan
from broker_bridge.cli.replay_run import run
from broker_bridge.cli.replay_status import status
from broker_bridge.cli.replay_verify import verify


@click.group("replay")
def group() -> None:
    """Plan, run and verify replays of dead letters.

    A plan is a file: what goes back is decided once, can be read and reviewed, and does not change. Running it sends
    copies to the group's own redrive lane. A run that was stopped or killed goes on where it ended: the lane itself
    says what was sent.

    \b
    Example:
      broker-bridge replay plan --code target_rejected --why "vouchers are accepted again" --out vouchers.plan
      broker-bridge replay run vouchers.plan
      broker-bridge replay run vouchers.plan --execute --confirm-count 42
      broker-bridge replay verify vouchers.plan --wait
    """


for _command in (plan, run, status, verify, pause, resume):
    group.add_command(_command)
