"""Commands that pages and programs show: pasted, each is accepted by the entry point that it names.

That they run too is tested on a store, in tests/mlflow_projects/test_thread.py.
"""

import pytest

from tests.pasted import check, parsed, shown

SHOWN = shown()


@pytest.mark.parametrize("file", [file for file, commands in SHOWN.items() if commands], ids=lambda file: file.stem)
def test_the_entry_points_accept_the_commands_of_a_file(file):
    refused = {}
    for command in SHOWN[file]:
        try:
            check(*parsed(command))
        except (ValueError, AssertionError, KeyError) as error:
            refused[command] = str(error)
    assert not refused
