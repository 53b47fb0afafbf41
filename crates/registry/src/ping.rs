//! Whether a server is a registry.

use http::{HeaderMap, Method, StatusCode};
use unlade_reference::Registry;

use crate::attempt::{self, Reply, Via};
use crate::body::{Body, drain};
use crate::challenge::Challenge;
use crate::client::Shared;
use crate::response::{MAX_ERROR_BYTES, content_type, is_page};
use crate::retry::{Failure, Retrier};
use crate::session::Session;
use crate::transport::Outgoing;
use crate::{CredentialsNote, EndpointError, Error, ErrorResponse};

/// What a registry says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ping {
    /// Which login it wants for its API (a repository may want another, or none).
    pub authentication: Authentication,
}

/// A kind of login.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Authentication {
    /// None.
    Open,
    /// A name and a password with every request.
    Basic,
    /// Tokens of a token server.
    Bearer {
        /// The token server's address.
        realm: String,
    },
    /// Something that cannot be done here.
    Other {
        /// The schemes offered.
        schemes: Vec<String>,
    },
}

/// Asks the registry's own server.
pub(crate) async fn ping(shared: &Shared, registry: &Registry) -> Result<Ping, Error> {
    let mut failures = Vec::new();
    for session in shared.own_servers(registry).await? {
        match ping_one(shared, &session).await {
            Ok(ping) => return Ok(ping),
            Err(error) => failures.push(EndpointError {
                host: session.endpoint().host(),
                error,
            }),
        }
    }
    Err(Error::of_endpoints(registry.as_str(), failures))
}

async fn ping_one(shared: &Shared, session: &Session) -> Result<Ping, Error> {
    let mut retrier = Retrier::new(shared.policy);
    loop {
        match attempt(shared, session).await {
            Ok(ping) => return Ok(ping),
            Err(failure) => retrier.pause(failure).await?,
        }
    }
}

async fn attempt(shared: &Shared, session: &Session) -> Result<Ping, Failure> {
    let outgoing = Outgoing {
        method: Method::GET,
        url: session.endpoint().base().clone(),
        headers: HeaderMap::new(),
        body: bytes::Bytes::new(),
    };
    let own = session.endpoint().headers().clone();
    let reply = attempt::follow(shared, outgoing, own, Via::endpoint(session)).await?;
    let authentication = match reply.response.status() {
        StatusCode::UNAUTHORIZED => Authentication::of(&Challenge::all(reply.response.headers())),
        status if status.is_success() => Authentication::Open,
        _ => return Err(refused(shared, reply).await),
    };
    let content_type = content_type(reply.response.headers());
    if authentication == Authentication::Open && is_page(&content_type) {
        let due = "a registry's greeting";
        return Err(Failure::last(Error::Page {
            exchange: reply.exchange(),
            content_type,
            due,
        }));
    }
    drain(reply.response.into_body()).await;
    Ok(Ping { authentication })
}

/// Makes an error of an answer that is neither a greeting nor a challenge.
pub(crate) async fn refused(shared: &Shared, reply: Reply) -> Failure {
    let exchange = reply.exchange();
    let (parts, incoming) = reply.response.into_parts();
    let body = Body::new(incoming, shared.transport.timeouts())
        .read_start(MAX_ERROR_BYTES)
        .await;
    let response = Box::new(ErrorResponse::new(parts.status, &parts.headers, &body));
    if let Some(failure) = attempt::transient(&exchange, &parts.headers, &response) {
        return failure;
    }
    Failure::last(match parts.status {
        StatusCode::NOT_FOUND => Error::NotFound {
            exchange,
            response,
            credentials: Box::default(),
        },
        StatusCode::FORBIDDEN => Error::Denied {
            exchange,
            response,
            credentials: Box::new(CredentialsNote::Anonymous),
        },
        _ => Error::Status { exchange, response },
    })
}

impl Authentication {
    fn of(challenges: &[Challenge]) -> Self {
        let realm = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer { realm: Some(realm), .. } => Some(realm.clone()),
            _ => None,
        });
        if let Some(realm) = realm {
            return Self::Bearer { realm };
        }
        if challenges.contains(&Challenge::Basic) {
            return Self::Basic;
        }
        let schemes = challenges.iter().filter_map(|challenge| match challenge {
            Challenge::Other(scheme) => Some(scheme.clone()),
            Challenge::Bearer { .. } => Some("bearer".to_owned()),
            Challenge::Basic => None,
        });
        Self::Other {
            schemes: schemes.collect(),
        }
    }
}
