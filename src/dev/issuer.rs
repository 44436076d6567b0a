//! A development issuer: two keys in files, their key set on a route, grant tokens on demand.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use axum::{Router, routing::get};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use http::header::CONTENT_TYPE;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{DevFault, files};
use crate::{
    auth::key_set::SignatureAlgorithm,
    model::{id::EventId, timestamp::Timestamp},
};

/// Where the key set is served.
pub const JWKS_PATH: &str = "/.well-known/jwks.json";

/// The id of the development agent at its issuer.
const CLIENT_ID: &str = "ag_development";

/// The issuer of one instance.
pub struct DevIssuer {
    rsa: DevKey,
    p256: DevKey,
}

/// What a minted token says.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "each is the claim of its name")]
pub struct GrantClaims<'a> {
    pub issuer: &'a str,
    pub developer: &'a str,
    pub principal: &'a str,
    pub agent: &'a str,
    pub scopes: &'a [String],
    pub audience: Option<&'a str>,
    pub now: Timestamp,
    pub expires_in: Duration,
}

/// Which claims a minted token has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClaimsForm {
    /// Those of issuers from 0.7 on.
    #[default]
    Standard,
    /// Those of issuers before 0.6.
    Short,
    /// Both, as issuers of 0.6 write them.
    Both,
}

/// A key that signs grant tokens.
struct DevKey {
    algorithm: SignatureAlgorithm,
    pem: String,
    kid: String,
    /// Its public half as an entry of the key set (RFC 7517).
    jwk: Value,
}

impl DevIssuer {
    /// Reads the issuer's keys.
    ///
    /// # Errors
    ///
    /// When there are none or one is not a key.
    pub fn load(directory: &Path) -> Result<Self, DevFault> {
        Ok(Self {
            rsa: DevKey::load(directory, SignatureAlgorithm::Rs256)?,
            p256: DevKey::load(directory, SignatureAlgorithm::Es256)?,
        })
    }

    /// Reads the issuer's keys, made when there are none, and writes their key set beside them.
    pub(super) fn load_or_make(directory: &Path) -> Result<Self, DevFault> {
        for algorithm in [SignatureAlgorithm::Rs256, SignatureAlgorithm::Es256] {
            let path = key_file(directory, algorithm);
            if !path.exists() {
                files::make_private(&path, make_pem(algorithm).as_bytes())?;
            }
        }
        let issuer = Self::load(directory)?;
        files::rewrite(&jwks_file(directory), issuer.jwks().as_bytes())?;
        Ok(issuer)
    }

    /// Signs a grant token.
    ///
    /// # Panics
    ///
    /// Never: the keys were read before.
    #[must_use]
    pub fn mint(
        &self,
        claims: &GrantClaims<'_>,
        form: ClaimsForm,
        algorithm: SignatureAlgorithm,
    ) -> String {
        let key = match algorithm {
            SignatureAlgorithm::Rs256 => &self.rsa,
            SignatureAlgorithm::Es256 => &self.p256,
        };
        let token_type = match form {
            ClaimsForm::Standard | ClaimsForm::Both => "at+jwt",
            ClaimsForm::Short => "JWT",
        };
        key.sign(token_type, &claims.to_json(form))
    }

    /// The route of the key set.
    pub(super) fn routes(&self) -> Router {
        let jwks = self.jwks();
        let answer = get(async move || ([(CONTENT_TYPE, "application/json")], jwks));
        Router::new().route(JWKS_PATH, answer)
    }

    fn jwks(&self) -> String {
        json!({"keys": [self.rsa.jwk, self.p256.jwk]}).to_string()
    }
}

// === impl GrantClaims ===

impl GrantClaims<'_> {
    fn to_json(self, form: ClaimsForm) -> Value {
        let issued_at = self.now.as_second();
        let lifetime = i64::try_from(self.expires_in.as_secs()).unwrap_or(i64::MAX);
        let id = EventId::make(self.now);
        let (token, grant) = (format!("tok_{id}"), format!("grnt_{id}"));
        let mut claims = json!({
            "iss": self.issuer,
            "sub": self.principal,
            "jti": token,
            "iat": issued_at,
            "exp": issued_at.saturating_add(lifetime),
        });
        if let Some(audience) = self.audience {
            claims["aud"] = audience.into();
        }
        if form != ClaimsForm::Short {
            claims["client_id"] = CLIENT_ID.into();
            // What a space-delimited list cannot hold is carried by `scp` alone.
            if self
                .scopes
                .iter()
                .any(|scope| scope.contains(char::is_whitespace))
            {
                claims["scp"] = json!(self.scopes);
            } else {
                claims["scope"] = self.scopes.join(" ").into();
            }
            claims["urn:grantex:grant"] = json!({
                "grant_id": grant, "agent_did": self.agent, "developer_id": self.developer,
            });
        }
        if form != ClaimsForm::Standard {
            claims["agt"] = self.agent.into();
            claims["dev"] = self.developer.into();
            claims["grnt"] = grant.into();
            claims["scp"] = json!(self.scopes);
        }
        claims
    }
}

// === impl ClaimsForm ===

impl FromStr for ClaimsForm {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "standard" => Ok(Self::Standard),
            "short" => Ok(Self::Short),
            "both" => Ok(Self::Both),
            _ => Err("must be standard, short or both"),
        }
    }
}

impl fmt::Display for ClaimsForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Standard => "standard",
            Self::Short => "short",
            Self::Both => "both",
        })
    }
}

// === impl DevKey ===

impl DevKey {
    fn load(directory: &Path, algorithm: SignatureAlgorithm) -> Result<Self, DevFault> {
        let path = key_file(directory, algorithm);
        let pem = fs::read_to_string(&path);
        let pem = pem.map_err(|error| DevFault::File(path.clone(), error))?;
        Self::from_pem(pem, algorithm).ok_or(DevFault::Malformed(path))
    }

    fn from_pem(pem: String, algorithm: SignatureAlgorithm) -> Option<Self> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).ok()?;
        let numbers = match algorithm {
            SignatureAlgorithm::Rs256 => rsa_numbers(der.secret_pkcs8_der()),
            SignatureAlgorithm::Es256 => p256_numbers(der.secret_pkcs8_der()),
        }?;
        let kid = URL_SAFE_NO_PAD.encode(Sha256::digest(numbers.to_string()));
        let mut jwk = numbers;
        jwk["use"] = "sig".into();
        jwk["alg"] = algorithm.as_str().into();
        jwk["kid"] = kid.as_str().into();
        Some(Self {
            algorithm,
            pem,
            kid,
            jwk,
        })
    }

    fn sign(&self, token_type: &str, claims: &Value) -> String {
        let pem = self.pem.as_bytes();
        let (algorithm, key) = match self.algorithm {
            SignatureAlgorithm::Rs256 => (Algorithm::RS256, EncodingKey::from_rsa_pem(pem)),
            SignatureAlgorithm::Es256 => (Algorithm::ES256, EncodingKey::from_ec_pem(pem)),
        };
        let header = Header {
            kid: Some(self.kid.clone()),
            typ: Some(token_type.to_owned()),
            ..Header::new(algorithm)
        };
        let key = key.expect("it was read before");
        jsonwebtoken::encode(&header, claims, &key).expect("a key signs its own algorithm")
    }
}

fn rsa_numbers(pkcs8: &[u8]) -> Option<Value> {
    let pair = RsaKeyPair::from_pkcs8(pkcs8).ok()?;
    let public = pair.public_key();
    let modulus = public.modulus().big_endian_without_leading_zero();
    let exponent = public.exponent().big_endian_without_leading_zero();
    Some(json!({
        "kty": "RSA",
        "n": URL_SAFE_NO_PAD.encode(modulus),
        "e": URL_SAFE_NO_PAD.encode(exponent),
    }))
}

fn p256_numbers(pkcs8: &[u8]) -> Option<Value> {
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).ok()?;
    // An uncompressed point (SEC 1, section 2.3.3): 4, and two coordinates of 32 bytes.
    let (x, y) = pair.public_key().as_ref().get(1..)?.split_at_checked(32)?;
    Some(json!({
        "kty": "EC",
        "crv": "P-256",
        "x": URL_SAFE_NO_PAD.encode(x),
        "y": URL_SAFE_NO_PAD.encode(y),
    }))
}

/// Where the key set is kept for the verifier.
pub(super) fn jwks_file(directory: &Path) -> PathBuf {
    directory.join("jwks.json")
}

fn key_file(directory: &Path, algorithm: SignatureAlgorithm) -> PathBuf {
    directory.join(match algorithm {
        SignatureAlgorithm::Rs256 => "issuer.pem",
        SignatureAlgorithm::Es256 => "issuer-es256.pem",
    })
}

fn make_pem(algorithm: SignatureAlgorithm) -> String {
    match algorithm {
        SignatureAlgorithm::Rs256 => {
            let key = RsaKeyPair::generate(KeySize::Rsa2048).expect("2048 bits are a size");
            let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&key);
            to_pem(
                der.expect("a key that was just made can be encoded")
                    .as_ref(),
            )
        }
        SignatureAlgorithm::Es256 => {
            let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
            let der = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new());
            to_pem(der.expect("the operating system has randomness").as_ref())
        }
    }
}

fn to_pem(der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let lines: Vec<&str> = encoded
        .as_bytes()
        .chunks(64)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect();
    format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        lines.join("\n")
    )
}
