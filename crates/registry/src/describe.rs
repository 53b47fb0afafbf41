//! What would be asked, told without asking.

use unlade_reference::Repository;

use crate::client::Shared;
use crate::{CredentialsNote, EndpointSettings, Error, SafeUrl};

/// A server of a repository, as requests would meet it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointDescription {
    /// How it is spoken to, and where that is written.
    pub settings: EndpointSettings,
    /// What the URLs of the repository begin with there: `https://mirror.example/v2/library/alpine/`.
    pub url: SafeUrl,
    /// The repository by the name of this server: whose credentials it gets.
    pub repository: Repository,
    /// Which credentials it gets if it asks for some.
    pub credentials: CredentialsNote,
    /// The proxy that it is reached through, without the proxy's own login.
    pub proxy: Option<String>,
}

pub(crate) async fn endpoints(shared: &Shared, repository: &Repository) -> Result<Vec<EndpointDescription>, Error> {
    let settings = shared.endpoints(repository.registry(), repository.path()).await?;
    let route = shared.route(repository).await?;
    let mut described = Vec::with_capacity(settings.len());
    for (settings, target) in settings.into_iter().zip(&route.targets) {
        let url = target.base();
        described.push(EndpointDescription {
            settings,
            proxy: shared.transport.proxy(&url).map(ToString::to_string),
            url: SafeUrl::from(&url),
            repository: target.repository.clone(),
            credentials: CredentialsNote::of(&*shared.credentials.of(&target.repository).await),
        });
    }
    Ok(described)
}
