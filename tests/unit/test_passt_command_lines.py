"""What command lines of other processes tell, whatever they are."""

import pytest

from vnetd.linux.passt import socket_of


@pytest.mark.parametrize(
    ("words", "socket"),
    [
        (["/usr/bin/passt", "--foreground", "-s", "/run/one/socket", ""], "/run/one/socket"),
        (["passt", "-s"], ""),
        (["passt", "--version", ""], ""),
        (["sleep", "-s", "/run/one/socket", ""], ""),
        ([""], ""),
        ([], ""),  # it ended between being listed and being looked at
    ],
)
def test_a_process_has_the_socket_its_command_line_says(words: list[str], socket: str) -> None:
    assert socket_of(words) == socket
