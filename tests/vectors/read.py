"""Opens the vectors, written from docs/envelope.md alone. Fails with a traceback.

Arguments: the document, then files of vectors.
"""

import base64
import datetime
import hashlib
import json
import pathlib
import struct
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VERSION = b"\x01"
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
MILLISECOND = datetime.timedelta(milliseconds=1)


def joined(*parts):
    """The document's P."""
    parts = [part if isinstance(part, bytes) else part.encode() for part in parts]
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def unsealed(key, sealed, additional_data):
    assert sealed[:1] == VERSION and len(sealed) >= 29, "not of version 1"
    return AESGCM(key).decrypt(sealed[1:13], sealed[13:], additional_data)


def place(row):
    service_key = row["service"].lower()  # The spelling is ASCII.
    return row["developer"], row["principal"], service_key


def attributes(row):
    expiry = b""
    if row["tokenExpiresAt"] is not None:
        moment = datetime.datetime.strptime(row["tokenExpiresAt"], "%Y-%m-%dT%H:%M:%S.%f%z")
        expiry = struct.pack(">q", (moment - EPOCH) // MILLISECOND)
    scopes, agents = row.get("requiredScopes", []), row.get("allowedAgents", [])
    restrictions = (joined(*scopes), joined(*agents)) if scopes or agents else ()
    return joined(row["service"], row["credentialType"], expiry, row["metadata"], *restrictions)


def token_data(field, row):
    attributes_hash = hashlib.sha256(attributes(row)).digest()
    return VERSION + joined(field, *place(row), attributes_hash)


def key_data(row):
    if "id" in row:
        purpose = ("grantex:purpose", "webhook-secret")
        return joined(row["masterKey"]) + joined("grantex:developer", row["developer"], *purpose)
    place_hash = hashlib.sha256(joined(*place(row))).digest()
    place_text = base64.urlsafe_b64encode(place_hash).rstrip(b"=")
    context = ("grantex:developer", row["developer"], "grantex:place", place_text)
    return joined(row["masterKey"]) + joined(*context)


def master_key(keyring, identity):
    found = {f"local:{keyring['id']}/{key['version']}": key["key"] for key in keyring["keys"]}
    return base64.b64decode(found[identity], validate=True)


def data_key(keyring, row):
    wrapped = base64.b64decode(row["wrappedKey"])
    return unsealed(master_key(keyring, row["masterKey"]), wrapped, key_data(row))


def opened(keyring, row, member, field):
    sealed = base64.b64decode(row[member]["sealed"])
    return unsealed(data_key(keyring, row), sealed, token_data(field, row)).decode()


def stays_shut(keyring, row, changes, member="accessToken", field="access_token"):
    try:
        opened(keyring, {**row, **changes}, member, field)
    except InvalidTag:
        return
    raise AssertionError(f"{row['name']} opens with {changes} as {field}")


def check(keyring, row):
    assert opened(keyring, row, "accessToken", "access_token") == row["accessToken"]["text"]
    if row["refreshToken"] is not None:
        assert opened(keyring, row, "refreshToken", "refresh_token") == row["refreshToken"]["text"]
        stays_shut(keyring, row, {}, "refreshToken", "access_token")
    for member in "developer", "principal", "service", "credentialType", "metadata":
        stays_shut(keyring, row, {member: row[member] + "0"})
    # The same place in another spelling.
    stays_shut(keyring, row, {"service": row["service"].swapcase()})
    stays_shut(keyring, row, {"tokenExpiresAt": "2000-01-01T00:00:00.000Z"})
    stays_shut(keyring, row, {}, field="refresh_token")
    for member in "requiredScopes", "allowedAgents":
        stays_shut(keyring, row, {member: row.get(member, []) + ["0"]})
        if row.get(member):
            stays_shut(keyring, row, {member: row[member][:-1]})
            stays_shut(keyring, row, {member: []})


def opened_secret(keyring, row):
    additional_data = VERSION + joined("webhook_secret", row["developer"], row["id"])
    sealed = base64.b64decode(row["secret"]["sealed"])
    return unsealed(data_key(keyring, row), sealed, additional_data).decode()


def check_secret(keyring, row):
    assert opened_secret(keyring, row) == row["secret"]["text"]
    for member in "developer", "id":
        try:
            opened_secret(keyring, {**row, member: row[member] + "0"})
        except InvalidTag:
            continue
        raise AssertionError(f"{row['name']} opens with another {member}")


def check_example(document, keyring, row):
    """The document shows every step of this vector as it is."""
    shown = "".join(document.split())
    steps = {
        "master key": master_key(keyring, row["masterKey"]),
        "place": joined(*place(row)),
        "hash of the place": hashlib.sha256(joined(*place(row))).digest(),
        "additional data of the key": key_data(row),
        "wrapped key": base64.b64decode(row["wrappedKey"]),
        "data key": data_key(keyring, row),
        "attributes": attributes(row),
        "additional data of the token": token_data("access_token", row),
        "sealed token": base64.b64decode(row["accessToken"]["sealed"]),
    }
    for name, value in steps.items():
        assert value.hex() in shown, f"the {name} is {value.hex()}"


def check_attributes(document, row):
    """The document shows the attributes of this vector, and their hash."""
    shown = "".join(document.split())
    for value in attributes(row), hashlib.sha256(attributes(row)).digest():
        assert value.hex() in shown, value.hex()


def main(document, *files):
    count = 0
    for file in files:
        vectors = json.loads(pathlib.Path(file).read_text(encoding="utf-8"))
        keyring = vectors["keyring"]
        for row in vectors.get("webhookSecrets", []):
            check_secret(keyring, row)
            count += 1
        for row in vectors.get("credentials", []):
            check(keyring, row)
            count += 1
            text = pathlib.Path(document).read_text(encoding="utf-8")
            if row["name"] == "the least":
                check_example(text, keyring, row)
            if row["name"] == "one of each":
                check_attributes(text, row)
    print(count)


main(*sys.argv[1:])
