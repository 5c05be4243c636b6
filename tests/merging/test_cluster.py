"""What is said before any work where a merge cannot be divided over workers."""

from __future__ import annotations

import socket
import sys

import pytest

from laconic.errors import RecipeError, WorkerError
from laconic.merging.engine.cluster import check_address, connected
from laconic.merging.engine.options import ExecutionOptions


def test_without_ray_one_sentence_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RecipeError, match=r"needs Ray: pip install 'laconic\[ray\]'"):
        ExecutionOptions(ray="auto")


@pytest.mark.parametrize(
    ("address", "device", "said"),
    [
        ("automatic", "cpu", "write auto, local or HOST:PORT"),
        ("host:", "cpu", "write auto, local or HOST:PORT"),
        ("ray://host:10001", "cpu", "run the merge on a machine of the cluster"),
        ("auto", "cuda", "leave the device out"),
    ],
)
def test_what_workers_cannot_do_is_refused(address: str, device: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        check_address(address, device)


def test_an_address_where_nobody_listens_is_refused_at_once() -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'laconic[ray]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(WorkerError, match="No Ray cluster answers at '127"), connected(address):
            pass
