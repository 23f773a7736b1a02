"""docs/actions.md says of the actions what they say of themselves."""

from __future__ import annotations

import actions_page


def test_the_page_of_actions_is_up_to_date() -> None:
    assert actions_page.PAGE.read_text() == actions_page.page(), "run: python benchmarks/actions_page.py"
