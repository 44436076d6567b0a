"""Signs grant tokens with the libraries that issuers in Python use.

Reads {"claims": …, "type": …} on standard input; prints a list of {"library", "jwk", "token"}.
"""

import json
import sys

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from joserfc import jwk as joserfc_jwk
from joserfc import jwt as joserfc_jwt


def with_pyjwt(algorithm, key, header, claims):
    algorithms = jwt.algorithms.get_default_algorithms()
    public = algorithms[algorithm].to_jwk(key.public_key(), as_dict=True)
    return public, jwt.encode(claims, key, algorithm=algorithm, headers=header)


def with_joserfc(kind, size, header, claims):
    key = joserfc_jwk.JWKRegistry.generate_key(kind, size)
    token = joserfc_jwt.encode(header, claims, key, algorithms=[header["alg"]])
    return key.as_dict(private=False), token


def main():
    asked = json.load(sys.stdin)
    claims, kind = asked["claims"], asked["type"]
    signed = []

    def add(library, algorithm, sign):
        kid = f"{library}-{algorithm}-{kind}"
        public, token = sign({"alg": algorithm, "kid": kid, "typ": kind})
        jwk = {**public, "kid": kid, "alg": algorithm, "use": "sig"}
        # PyJWT says "verify" of its public keys, joserfc may say nothing: both are fine.
        signed.append({"library": kid, "jwk": jwk, "token": token})

    private_rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private_ec = ec.generate_private_key(ec.SECP256R1())
    add("pyjwt", "RS256", lambda header: with_pyjwt("RS256", private_rsa, header, claims))
    add("pyjwt", "ES256", lambda header: with_pyjwt("ES256", private_ec, header, claims))
    add("joserfc", "RS256", lambda header: with_joserfc("RSA", 2048, header, claims))
    add("joserfc", "ES256", lambda header: with_joserfc("EC", "P-256", header, claims))
    json.dump(signed, sys.stdout)


main()
