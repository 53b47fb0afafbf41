//! Signed tokens, as a real registry checks them (distribution's token specification, *JSON Web Token*).

use std::fmt;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

/// Signs tokens with a key of its own (ES256); the certificate is for the registry that is to trust them.
pub struct TokenSigner {
    issuer: String,
    certificate_pem: String,
    certificate_der: Vec<u8>,
    key: EcdsaKeyPair,
    random: SystemRandom,
}

impl TokenSigner {
    /// Makes a key and a certificate for it.
    pub fn new(issuer: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let parameters = CertificateParams::new(vec![issuer.to_owned()]).expect("a name for the certificate");
        let certificate = parameters.self_signed(&key).expect("a certificate");
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.serialize_der(), &random);
        Self {
            issuer: issuer.to_owned(),
            certificate_pem: certificate.pem(),
            certificate_der: certificate.der().to_vec(),
            key: key.expect("a key that can sign"),
            random,
        }
    }

    /// Returns who issues the tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Returns the certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate_pem
    }

    /// Returns a token of `account` for `service`, good for these scopes.
    pub(super) fn sign(&self, account: &str, service: &str, scopes: &[String], number: u64) -> String {
        let header = json!({"typ": "JWT", "alg": "ES256", "x5c": [BASE64_STANDARD.encode(&self.certificate_der)]});
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or(Duration::ZERO)
            .as_secs();
        let access: Vec<Value> = scopes.iter().filter_map(|scope| access(scope)).collect();
        let claims = json!({
            "iss": self.issuer,
            "sub": account,
            "aud": service,
            "iat": now,
            "nbf": now.saturating_sub(10),
            "exp": now + 300,
            "jti": format!("{number}"),
            "access": access,
        });
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(&claims));
        let signature = self.key.sign(&self.random, message.as_bytes()).expect("a signature");
        format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Takes `repository:NAME:ACTIONS` apart.
fn access(scope: &str) -> Option<Value> {
    let (resource, actions) = scope.rsplit_once(':')?;
    let (kind, name) = resource.split_once(':')?;
    let actions: Vec<_> = actions.split(',').collect();
    Some(json!({"type": kind, "name": name, "actions": actions}))
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSigner")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}
