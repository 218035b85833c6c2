"""What an error of an object store comes to, in words that may be shown."""

from __future__ import annotations

from runnable.objects import trouble


def test_a_password_in_an_address_is_not_told() -> None:
    endpoint = "http://team:hunter2hunter2@127.0.0.1:9000"
    error = OSError(f"GET - error sending request for url ({endpoint}/files/a)")
    found = trouble(error, "catalog", endpoint)
    assert "hunter2" not in found.reason
    assert "http://…@127.0.0.1:9000" in found.reason
