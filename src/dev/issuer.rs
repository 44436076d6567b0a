//! A development issuer: an RSA key in a file, its key set on a route, grant tokens on demand.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use aws_lc_rs::{
    encoding::AsDer,
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};
use axum::{Router, routing::get};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use http::header::CONTENT_TYPE;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{DevFault, files};
use crate::model::{id::EventId, timestamp::Timestamp};

/// Where the key set is served.
pub const JWKS_PATH: &str = "/.well-known/jwks.json";

/// The issuer of one instance.
pub struct DevIssuer {
    pem: String,
    kid: String,
    jwks: String,
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
    pub now: Timestamp,
    pub expires_in: Duration,
}

impl DevIssuer {
    /// Reads the issuer's key.
    ///
    /// # Errors
    ///
    /// When there is none or it is not a key.
    pub fn load(directory: &Path) -> Result<Self, DevFault> {
        let path = key_file(directory);
        let pem = fs::read_to_string(&path);
        Self::from_pem(pem.map_err(|error| DevFault::File(path.clone(), error))?)
            .ok_or(DevFault::Malformed(path))
    }

    /// Reads the issuer's key, made when there is none, and writes its key set beside it.
    pub(super) fn load_or_make(directory: &Path) -> Result<Self, DevFault> {
        let path = key_file(directory);
        if !path.exists() {
            let key = KeyPair::generate(KeySize::Rsa2048).expect("RSA keys of 2048 bits are made");
            let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&key);
            let der = der.expect("a key that was just made can be encoded");
            files::write_private(&path, to_pem(der.as_ref()).as_bytes())?;
        }
        let issuer = Self::load(directory)?;
        files::write_private(&jwks_file(directory), issuer.jwks.as_bytes())?;
        Ok(issuer)
    }

    /// Signs a grant token.
    ///
    /// # Panics
    ///
    /// Never: the key was read before.
    #[must_use]
    pub fn mint(&self, claims: &GrantClaims<'_>) -> String {
        let issued_at = claims.now.as_second();
        let lifetime = i64::try_from(claims.expires_in.as_secs()).unwrap_or(i64::MAX);
        let token_id = EventId::make(claims.now);
        let payload = json!({
            "iss": claims.issuer,
            "sub": claims.principal,
            "agt": claims.agent,
            "dev": claims.developer,
            "scp": claims.scopes,
            "jti": format!("tok_{token_id}"),
            "grnt": format!("grnt_{token_id}"),
            "iat": issued_at,
            "exp": issued_at.saturating_add(lifetime),
        });
        let header = Header {
            kid: Some(self.kid.clone()),
            ..Header::new(Algorithm::RS256)
        };
        let key = EncodingKey::from_rsa_pem(self.pem.as_bytes()).expect("it was read before");
        jsonwebtoken::encode(&header, &payload, &key).expect("an RSA key signs RS256")
    }

    /// The route of the key set.
    pub(super) fn routes(&self) -> Router {
        let jwks = self.jwks.clone();
        let answer = get(async move || ([(CONTENT_TYPE, "application/json")], jwks));
        Router::new().route(JWKS_PATH, answer)
    }

    fn from_pem(pem: String) -> Option<Self> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).ok()?;
        let key = KeyPair::from_pkcs8(der.secret_pkcs8_der()).ok()?;
        let modulus = key.public_key().modulus().big_endian_without_leading_zero();
        let exponent = key
            .public_key()
            .exponent()
            .big_endian_without_leading_zero();
        let kid = URL_SAFE_NO_PAD.encode(Sha256::digest(modulus));
        let jwks = json!({"keys": [{
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": kid,
            "n": URL_SAFE_NO_PAD.encode(modulus),
            "e": URL_SAFE_NO_PAD.encode(exponent),
        }]});
        Some(Self {
            pem,
            kid,
            jwks: jwks.to_string(),
        })
    }
}

/// Where the key set is kept for the verifier.
pub(super) fn jwks_file(directory: &Path) -> PathBuf {
    directory.join("jwks.json")
}

fn key_file(directory: &Path) -> PathBuf {
    directory.join("issuer.pem")
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
