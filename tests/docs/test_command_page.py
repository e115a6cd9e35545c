"""docs/cli.md has every command and option, as the commands themselves have them."""

from __future__ import annotations

import click
import command_page


def test_the_page_is_what_the_commands_say() -> None:
    assert command_page.PAGE.read_text() == command_page.page(), "run: python tests/docs/command_page.py"


def test_every_command_and_option_is_on_it() -> None:
    page = command_page.PAGE.read_text()
    found = list(command_page.commands())
    assert len(found) >= 19
    for path, command, _ in found:
        assert f"# broker-bridge {' '.join(path)}\n" in page
        own = page.partition(f"# broker-bridge {' '.join(path)}\n")[2].partition("\n## ")[0].partition("\n### ")[0]
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert f"`{parameter.opts[0]}" in own, (path, parameter.opts)


def test_every_command_says_how_it_ends_or_is_a_group() -> None:
    silent = [
        " ".join(path)
        for path, command, _ in command_page.commands()
        if not isinstance(command, click.Group) and "Exit status" not in (command.help or "") + (command.epilog or "")
    ]
    assert silent == [], "tell the exit statuses in the command's help"
