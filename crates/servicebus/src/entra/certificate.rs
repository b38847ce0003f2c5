//! Assertions signed with a certificate's key: a JWT by which an application proves who it is, in place of a client secret.
//!
//! The form is Microsoft's ("Microsoft identity platform application authentication certificate credentials"): PS256, named by
//! the certificate's SHA-256 thumbprint. `azure_identity` would need OpenSSL for it; ring is here already.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{KeyPair as _, RSA_PSS_SHA256, RsaKeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// How long an assertion is good for; Microsoft recommends 5 to 10 minutes.
const LIFETIME: Duration = Duration::from_mins(5);

/// A certificate's key, able to sign assertions.
pub(super) struct Certificate {
    key: RsaKeyPair,
    header: String,
}

impl Certificate {
    /// From a PEM text with one certificate first (a chain may follow) and its RSA key, PKCS#8 or PKCS#1. The error says what
    /// would be allowed.
    pub(super) fn from_pem(pem: &SecretString) -> Result<Self, &'static str> {
        let pem = pem.expose_secret().as_bytes();
        let certificate = CertificateDer::from_pem_slice(pem)
            .map_err(|_| "PEM with a certificate and its private key; there is no certificate in it")?;
        let key = PrivateKeyDer::from_pem_slice(pem).map(Zeroizing::new).map_err(
            |_| "PEM with a certificate and its private key; there is no private key in it, or an encrypted one",
        )?;
        let key = match &*key {
            PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
            _ => return Err(RSA_ONLY),
        };
        let key = key.map_err(|_| RSA_ONLY)?;
        // A certificate holds the public key as PKCS#1 has it, byte for byte.
        let public = key.public_key().as_ref();
        if !certificate.windows(public.len()).any(|part| part == public) {
            return Err("a certificate and the private key that belongs to it; these two do not belong together");
        }
        let thumbprint = URL_SAFE_NO_PAD.encode(Sha256::digest(&certificate));
        let header = json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint });
        Ok(Self { key, header: URL_SAFE_NO_PAD.encode(header.to_string()) })
    }

    /// Signs an assertion that a token endpoint takes from `client_id` until five minutes from `now`.
    pub(super) fn assertion(&self, endpoint: &str, client_id: &str, now: SystemTime) -> Result<String, &'static str> {
        let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let claims = json!({
            "aud": endpoint,
            "iss": client_id,
            "sub": client_id,
            "jti": Uuid::new_v4().to_string(),
            "iat": seconds(now),
            "nbf": seconds(now),
            "exp": seconds(now + LIFETIME),
        });
        let text = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(claims.to_string()));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PSS_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
            .map_err(|_| "able to sign; it is not")?;
        Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

const RSA_ONLY: &str = "PEM with a certificate and its private key, an RSA key of 2048 to 4096 bits (PKCS#8 or PKCS#1)";
