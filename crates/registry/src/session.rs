//! What one client knows about being let in by one registry.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::mem::{Discriminant, discriminant};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderValue;
use unlade_auth::{Credential, Lookup};
use unlade_reference::Repository;
use url::Url;

use crate::address::{is_link_local, names_link_local};
use crate::attempt::{Reply, Via};
use crate::challenge::Challenge;
use crate::client::Shared;
use crate::endpoint::Endpoint;
use crate::scope::ScopeSet;
use crate::token::{TokenCache, TokenKey};
use crate::token_request::{TokenRequest, basic, bearer};
use crate::transport::{Lines, Trust};
use crate::{CredentialsNote, Error};

/// How long a server that was out of reach is asked after the others: long enough for a pull not to wait for it again and
/// again, short enough to notice that it is back.
const DOWN: Duration = Duration::from_secs(30);

/// An endpoint, the kind of proof that it asks for, and the tokens got for it.
///
/// The first request goes out without proof and learns from the challenge. From then on proof is sent at once, for
/// other repositories too, which saves them the refused request.
pub(crate) struct Session {
    endpoint: Endpoint,
    lines: Arc<Lines>,
    down_since: Mutex<Option<Instant>>,
    told: Mutex<HashSet<Discriminant<Error>>>,
    scheme: Mutex<Option<Scheme>>,
    // What challenges asked for beyond pulling, by repository.
    scopes: Mutex<HashMap<String, ScopeSet>>,
    tokens: TokenCache,
}

/// What an endpoint asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Scheme {
    Bearer {
        realm: Url,
        trust: Trust,
        service: Option<String>,
    },
    Basic,
}

/// What is sent as `Authorization`. The header is marked as sensitive and does not print.
#[derive(Clone, Debug)]
pub(crate) struct Proof {
    pub(crate) header: HeaderValue,
    token: Option<TokenProof>,
}

#[derive(Clone, Debug)]
struct TokenProof {
    key: TokenKey,
    generation: u64,
    fresh: bool,
}

impl Session {
    pub(crate) fn new(endpoint: Endpoint, lines: Arc<Lines>) -> Self {
        Self {
            endpoint,
            lines,
            down_since: Mutex::default(),
            told: Mutex::default(),
            scheme: Mutex::default(),
            scopes: Mutex::default(),
            tokens: TokenCache::default(),
        }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Returns the connections to the endpoint and to where it leads.
    pub(crate) fn lines(&self) -> &Arc<Lines> {
        &self.lines
    }

    /// Takes note that the server could not be reached.
    pub(crate) fn mark_down(&self) {
        *self.down_since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Tells whether the server could not be reached a short while ago.
    pub(crate) fn is_down(&self) -> bool {
        let since = *self.down_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.elapsed() < DOWN)
    }

    /// Tells whether this is the first error of its kind from this server, and takes note of it.
    pub(crate) fn is_news(&self, error: &Error) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert(discriminant(error))
    }

    /// Returns what to send with a request for `repository` by all that is known so far.
    pub(crate) async fn proof(&self, shared: &Shared, repository: &Repository) -> Result<Option<Proof>, Error> {
        let scheme = self.scheme.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(scheme) = scheme else {
            return Ok(None);
        };
        let lookup = shared.credentials.of(repository).await;
        match scheme {
            Scheme::Basic => Ok(basic_proof(&lookup)),
            Scheme::Bearer { realm, trust, service } => {
                self.bearer_proof(shared, repository, &lookup, (&realm, trust, service.as_deref()), None)
                    .await
            }
        }
    }

    /// Returns what to send instead of `refused`, by the challenges of the answer to it; `None` if nothing better is known.
    pub(crate) async fn answer(
        &self,
        shared: &Shared,
        repository: &Repository,
        reply: &Reply,
        refused: Option<&Proof>,
    ) -> Result<Option<Proof>, Error> {
        let challenges = Challenge::all(reply.response.headers());
        let unusable = |reason: String| Error::Challenge {
            exchange: reply.exchange(),
            reason,
        };
        let bearer = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer {
                realm, service, scope, ..
            } => Some((realm, service, scope)),
            _ => None,
        });
        let offers_basic = challenges.contains(&Challenge::Basic);
        let lookup = shared.credentials.of(repository).await;
        if let Some((realm, service, scope)) = bearer {
            match self.realm(realm.as_deref(), reply) {
                Ok((realm, trust)) => {
                    self.learn(Scheme::Bearer {
                        realm: realm.clone(),
                        trust,
                        service: service.clone(),
                    });
                    self.widen(repository, &ScopeSet::parse(scope.as_deref().unwrap_or_default()));
                    let asked = (&realm, trust, service.as_deref());
                    return self.bearer_proof(shared, repository, &lookup, asked, refused).await;
                }
                Err(reason) if !offers_basic => return Err(unusable(reason)),
                Err(_) => {}
            }
        }
        if offers_basic {
            self.learn(Scheme::Basic);
            let proof = basic_proof(&lookup).filter(|proof| refused.is_none_or(|old| old.header != proof.header));
            if proof.is_none()
                && lookup
                    .found
                    .as_ref()
                    .is_some_and(|found| found.credential.username().is_none())
            {
                let note = CredentialsNote::of(&lookup);
                return Err(unusable(format!("it wants a name and a password, but {note}")));
            }
            return Ok(proof);
        }
        let schemes: Vec<_> = challenges
            .iter()
            .filter_map(|challenge| match challenge {
                Challenge::Other(scheme) => Some(scheme.as_str()),
                _ => None,
            })
            .collect();
        if schemes.is_empty() {
            return Ok(None);
        }
        Err(unusable(format!(
            "it offers only {}, and Bearer and Basic are what can be done",
            schemes.join(", ")
        )))
    }

    /// Returns a new token in place of one that the registry calls expired without a challenge.
    pub(crate) async fn renew(
        &self,
        shared: &Shared,
        repository: &Repository,
        refused: &Proof,
    ) -> Result<Option<Proof>, Error> {
        let scheme = self.scheme.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(Scheme::Bearer { realm, trust, service }) = scheme else {
            return Ok(None);
        };
        let lookup = shared.credentials.of(repository).await;
        self.bearer_proof(
            shared,
            repository,
            &lookup,
            (&realm, trust, service.as_deref()),
            Some(refused),
        )
        .await
    }

    async fn bearer_proof(
        &self,
        shared: &Shared,
        repository: &Repository,
        lookup: &Lookup,
        (realm, trust, service): (&Url, Trust, Option<&str>),
        refused: Option<&Proof>,
    ) -> Result<Option<Proof>, Error> {
        let account = match lookup.found.as_ref().map(|found| &found.credential) {
            Some(Credential::RegistryToken(token)) => {
                let proof = bearer(token).map(|header| Proof { header, token: None });
                return Ok(proof.filter(|proof| refused.is_none_or(|old| old.header != proof.header)));
            }
            Some(Credential::IdentityToken(_)) => Credential::IDENTITY_TOKEN_USER,
            Some(credential) => credential.username().unwrap_or_default(),
            None => "",
        };
        let scopes = self.scopes(repository);
        let key = TokenKey {
            realm: realm.to_string(),
            service: service.map(str::to_owned),
            account: account.to_owned(),
            scopes: scopes.clone(),
        };
        let same = refused
            .and_then(|proof| proof.token.as_ref())
            .filter(|token| token.key == key);
        if same.is_some_and(|token| token.fresh) {
            // It was made for this very request, so the next one would be refused too.
            return Ok(None);
        }
        let request = TokenRequest {
            realm,
            via: self.via_realm(realm, trust),
            service,
            scopes: &scopes,
            lookup,
        };
        let slot = self.tokens.slot(&key);
        let token = slot
            .get(same.map(|token| token.generation), request.fetch(shared))
            .await?;
        let proof = TokenProof {
            key,
            generation: token.generation,
            fresh: token.fresh,
        };
        Ok(bearer(&token.value).map(|header| Proof {
            header,
            token: Some(proof),
        }))
    }

    /// Returns the way to a token server. The endpoint's own TLS settings are for its own origin.
    pub(crate) fn via_realm(&self, realm: &Url, trust: Trust) -> Via<'_> {
        Via {
            lines: &self.lines,
            is_own: self.endpoint.is_origin_of(realm),
            trust,
            allow_link_local: false,
        }
    }

    /// Returns the address of the token server and how far it is trusted.
    pub(crate) fn realm(&self, realm: Option<&str>, reply: &Reply) -> Result<(Url, Trust), String> {
        let url = checked_realm(realm, self.endpoint.is_plain())?;
        // The registry's own connection may be used again if it is known to lead to a harmless address.
        let harmless = reply.remote().is_some_and(|address| !is_link_local(address.ip()));
        let trust = if harmless && self.endpoint.is_origin_of(&url) {
            Trust::Named
        } else {
            Trust::Told
        };
        Ok((url, trust))
    }

    fn learn(&self, scheme: Scheme) {
        *self.scheme.lock().unwrap_or_else(PoisonError::into_inner) = Some(scheme);
    }

    fn scopes(&self, repository: &Repository) -> ScopeSet {
        let mut scopes = ScopeSet::pull(repository);
        let wider = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wider) = wider.get(repository.path()) {
            scopes.merge(wider);
        }
        scopes
    }

    fn widen(&self, repository: &Repository, scopes: &ScopeSet) {
        let mut wider = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        wider.entry(repository.path().to_owned()).or_default().merge(scopes);
    }
}

/// Checks the address of a token server, which the registry names and which will get the credentials.
fn checked_realm(realm: Option<&str>, allow_http: bool) -> Result<Url, String> {
    let text = realm.ok_or("it names no token server")?;
    let mut url = Url::parse(text).map_err(|error| format!("the token server's address is no URL: {error}"))?;
    match url.scheme() {
        "https" => {}
        "http" if allow_http => {}
        scheme => {
            return Err(format!(
                "the token server's address begins with {scheme}:, which is not safe"
            ));
        }
    }
    if names_link_local(&url) {
        return Err("the token server's address is link-local".to_owned());
    }
    url.set_fragment(None);
    // These fail only for URLs without a host, which the two schemes always have.
    let _userinfo_gone = url.set_username("").is_ok() && url.set_password(None).is_ok();
    Ok(url)
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

fn basic_proof(lookup: &Lookup) -> Option<Proof> {
    match &lookup.found.as_ref()?.credential {
        Credential::Basic { username, password } => Some(Proof {
            header: basic(username, password),
            token: None,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn realms() {
        let check = |realm, allow_http| checked_realm(Some(realm), allow_http).map(String::from);
        assert_eq!(
            check("https://auth.docker.io/token", false).unwrap(),
            "https://auth.docker.io/token"
        );
        assert_eq!(
            check("https://u:p@a.example/t?x=1#f", false).unwrap(),
            "https://a.example/t?x=1"
        );
        assert_eq!(
            check("http://localhost:5001/auth", true).unwrap(),
            "http://localhost:5001/auth"
        );
        assert!(
            check("http://a.example/t", false)
                .unwrap_err()
                .contains("begins with http:, which is not safe")
        );
        assert!(
            check("file:///etc/passwd", true)
                .unwrap_err()
                .contains("begins with file:")
        );
        assert!(
            check("https://169.254.169.254/t", false)
                .unwrap_err()
                .contains("link-local")
        );
        assert!(
            check("http://[::ffff:169.254.1.1]/t", true)
                .unwrap_err()
                .contains("link-local")
        );
        assert!(check("/token", true).is_err());
        assert!(checked_realm(None, true).is_err());
    }
}
