"""The official Python SDK against a vault: only its base URL is changed.

Reads on standard input what `grantex-vault dev --json` prints; fails with a traceback.
"""

import json
import re
import sys
from urllib.parse import quote

from grantex import (
    ExchangeCredentialParams,
    Grantex,
    ListVaultCredentialsParams,
    StoreCredentialParams,
)
from grantex._errors import GrantexApiError, GrantexAuthError

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def refused(call, kind, status, code, message):
    try:
        call()
    except kind as error:
        assert error.status_code == status, error.status_code
        assert error.code == code, error.code
        assert str(error) == message, str(error)
        assert UUID.fullmatch(error.request_id), error.request_id
    else:
        raise AssertionError(f"{message!r} was expected")


def store(vault, principal, service, token, **more):
    return vault.store(
        StoreCredentialParams(principal_id=principal, service=service, access_token=token, **more)
    )


def filters(vault):
    """What docs/sdks.md says of filters: the SDK does not encode them, so that they are passed quoted."""
    ids = {
        principal: store(vault, principal, "github", "x").id
        for principal in ("x+y@z", "x y@z", "a#b", "a", "a&service=slack", "a%41", "aA", "ü b/c?d")
    }

    def found(principal):
        credentials = vault.list(ListVaultCredentialsParams(principal_id=principal)).credentials
        return [one.id for one in credentials]

    for principal, id in ids.items():
        assert found(quote(principal, safe="")) == [id], principal
    assert found("x+y@z") == [ids["x y@z"]]
    assert found("a#b") == [ids["a"]]
    assert found("a&service=slack") == []
    assert found("a&service=github") == [ids["a"]]
    assert found("a%41") == [ids["aA"]]
    service_is_lost = ListVaultCredentialsParams(principal_id="a#b", service="slack")
    assert [one.id for one in vault.list(service_is_lost).credentials] == [ids["a"]]
    assert found("") == []
    for id in ids.values():
        vault.delete(id)


def main():
    dev = json.load(sys.stdin)
    principal = dev["principalId"]
    with Grantex(api_key=dev["apiKey"], base_url=dev["http"]) as client:
        vault = client.vault

        stored = store(
            vault,
            principal,
            "github",
            "gho_sdk",
            refresh_token="ghr_sdk",
            token_expires_at="2027-04-10T00:00:00Z",
            metadata={"scope": "repo,user", "nested": {"list": [1, 2.5, None]}},
        )
        assert stored.id.startswith("vc_") and stored.service == "github"
        assert stored.credential_type == "oauth2" and MOMENT.fullmatch(stored.created_at)
        other = store(vault, "somebody else", "slack", "xoxb", credential_type="api_key")

        everything = vault.list().credentials
        assert [one.id for one in everything] == [other.id, stored.id], everything
        by_principal = vault.list(ListVaultCredentialsParams(principal_id=principal)).credentials
        assert [one.id for one in by_principal] == [stored.id]
        by_both = vault.list(
            ListVaultCredentialsParams(principal_id="somebody else", service="SLACK")
        ).credentials
        assert [one.id for one in by_both] == [other.id]
        assert vault.list(ListVaultCredentialsParams(service="gitlab")).credentials == ()

        filters(vault)

        got = vault.get(stored.id)
        assert got.principal_id == principal and got.service == "github"
        assert got.token_expires_at == "2027-04-10T00:00:00.000Z", got.token_expires_at
        assert got.metadata == {"scope": "repo,user", "nested": {"list": [1, 2.5, None]}}
        assert isinstance(got.metadata, dict)
        assert vault.get(other.id).token_expires_at is None and vault.get(other.id).metadata == {}
        assert MOMENT.fullmatch(got.updated_at)

        github = ExchangeCredentialParams(service="github")
        exchanged = vault.exchange(dev["grantToken"], github)
        assert exchanged.access_token == "gho_sdk" and exchanged.service == "github"
        assert exchanged.token_expires_at == "2027-04-10T00:00:00.000Z"
        assert exchanged.metadata["scope"] == "repo,user"

        vault.delete(other.id)
        refused(
            lambda: vault.get(other.id), GrantexApiError, 404, "NOT_FOUND", "Credential not found"
        )
        refused(
            lambda: vault.delete(other.id), GrantexApiError, 404, "NOT_FOUND", "Credential not found"
        )
        refused(
            lambda: store(vault, principal, "bad service!", "x"),
            GrantexApiError,
            400,
            "BAD_REQUEST",
            "service must be 1-64 characters and contain only letters, numbers, dot, underscore, or dash",
        )
        for call, message in [
            (lambda: vault.exchange("not.a.token", github), "Invalid or expired grant token"),
            (
                lambda: vault.exchange_reference(dev["grantToken"], github),
                'delivery must be "token": no other is supported',
            ),
            (
                lambda: vault.exchange(dev["grantToken"], ExchangeCredentialParams(service="slack")),
                "No credential found for this principal and service",
            ),
        ]:
            try:
                call()
            except ValueError as error:
                assert str(error) == message, str(error)
            else:
                raise AssertionError(f"{message!r} was expected")

    with Grantex(api_key="gx_live_" + "0" * 43, base_url=dev["http"]) as stranger:
        refused(
            lambda: stranger.vault.list(), GrantexAuthError, 401, "UNAUTHORIZED", "Invalid API key"
        )


main()
