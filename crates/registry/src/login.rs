//! Whether a registry takes a login, asked before it is kept.

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use unlade_auth::{Credential, Found, Lookup};
use unlade_reference::Registry;

use crate::attempt::{self, Reply, Via};
use crate::body::{Body, drain};
use crate::challenge::Challenge;
use crate::client::Shared;
use crate::ping::{Authentication, refused};
use crate::response::{MAX_ERROR_BYTES, content_type, is_page};
use crate::retry::{Failure, Retrier};
use crate::scope::ScopeSet;
use crate::session::Session;
use crate::token_request::{TokenRequest, basic, bearer};
use crate::transport::Outgoing;
use crate::{CredentialsNote, EndpointError, Error, ErrorResponse};

/// Asks a registry whether it takes `found`, and returns what it wanted: with [`Authentication::Open`] it did not look.
///
/// A server that answers decides; only for one that is out of reach another way to it is tried.
pub(crate) async fn check(shared: &Shared, registry: &Registry, found: &Found) -> Result<Authentication, Error> {
    let mut failures = Vec::new();
    for session in shared.own_servers(registry).await? {
        match check_one(shared, &session, found).await {
            Err(error) if error.is_out_of_reach() => failures.push(EndpointError {
                host: session.endpoint().host(),
                error,
            }),
            answer => return answer,
        }
    }
    Err(Error::of_endpoints(registry.as_str(), failures))
}

async fn check_one(shared: &Shared, session: &Session, found: &Found) -> Result<Authentication, Error> {
    let mut retrier = Retrier::new(shared.policy);
    loop {
        match attempt(shared, session, found).await {
            Ok(authentication) => return Ok(authentication),
            Err(failure) => retrier.pause(failure).await?,
        }
    }
}

async fn attempt(shared: &Shared, session: &Session, found: &Found) -> Result<Authentication, Failure> {
    let reply = ask(shared, session, None).await?;
    if reply.response.status().is_success() {
        let content_type = content_type(reply.response.headers());
        if is_page(&content_type) {
            return Err(Failure::last(Error::Page {
                exchange: reply.exchange(),
                content_type,
                due: "a registry's greeting",
            }));
        }
        return Ok(Authentication::Open);
    }
    if reply.response.status() != StatusCode::UNAUTHORIZED {
        return Err(refused(shared, reply).await);
    }
    let challenges = Challenge::all(reply.response.headers());
    let (proof, authentication) = prove(shared, session, found, &challenges, &reply).await?;
    drain(reply.response.into_body()).await;
    let reply = ask(shared, session, Some(proof)).await?;
    match reply.response.status() {
        status if status.is_success() => Ok(authentication),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(denied(shared, reply, found).await),
        _ => Err(refused(shared, reply).await),
    }
}

/// Makes the proof that the challenges ask for. A token is asked for without a scope: it is about who asks, not for what.
async fn prove(
    shared: &Shared,
    session: &Session,
    found: &Found,
    challenges: &[Challenge],
    reply: &Reply,
) -> Result<(HeaderValue, Authentication), Failure> {
    let unusable = |reason: String| {
        Failure::last(Error::Challenge {
            exchange: reply.exchange(),
            reason,
        })
    };
    let token_server = challenges.iter().find_map(|challenge| match challenge {
        Challenge::Bearer { realm, service, .. } => Some((realm, service)),
        _ => None,
    });
    let offers_basic = challenges.contains(&Challenge::Basic);
    if let Some((realm, service)) = token_server {
        match session.realm(realm.as_deref(), reply) {
            Ok((realm, trust)) => {
                let authentication = Authentication::Bearer {
                    realm: realm.to_string(),
                };
                let token = if let Credential::RegistryToken(token) = &found.credential {
                    token.clone()
                } else {
                    let request = TokenRequest {
                        realm: &realm,
                        via: session.via_realm(&realm, trust),
                        service: service.as_deref(),
                        scopes: &ScopeSet::default(),
                        lookup: &Lookup {
                            found: Some(found.clone()),
                            warnings: Vec::new(),
                        },
                    };
                    request.fetch(shared).await?.value
                };
                let proof = bearer(&token).ok_or_else(|| unusable("its token cannot stand in a header".to_owned()))?;
                return Ok((proof, authentication));
            }
            Err(reason) if !offers_basic => return Err(unusable(reason)),
            Err(_) => {}
        }
    }
    match &found.credential {
        Credential::Basic { username, password } if offers_basic => {
            Ok((basic(username, password), Authentication::Basic))
        }
        credential if offers_basic => Err(unusable(format!(
            "it wants a name and a password, not an {}",
            credential.kind()
        ))),
        _ => Err(unusable("it offers neither Bearer nor Basic".to_owned())),
    }
}

async fn ask(shared: &Shared, session: &Session, proof: Option<HeaderValue>) -> Result<Reply, Failure> {
    let mut own = session.endpoint().headers().clone();
    own.extend(proof.map(|proof| (header::AUTHORIZATION, proof)));
    let outgoing = Outgoing {
        method: Method::GET,
        url: session.endpoint().base().clone(),
        headers: HeaderMap::new(),
        body: bytes::Bytes::new(),
    };
    attempt::follow(shared, outgoing, own, Via::endpoint(session)).await
}

async fn denied(shared: &Shared, reply: Reply, found: &Found) -> Failure {
    let exchange = reply.exchange();
    let (parts, incoming) = reply.response.into_parts();
    let body = Body::new(incoming, shared.transport.timeouts())
        .read_start(MAX_ERROR_BYTES)
        .await;
    Failure::last(Error::Denied {
        exchange,
        response: Box::new(ErrorResponse::new(parts.status, &parts.headers, &body)),
        credentials: Box::new(CredentialsNote::Sent {
            kind: found.credential.kind(),
            source: found.source.to_string(),
        }),
    })
}
