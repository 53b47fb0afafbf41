//! Who may ask: nothing, Basic, or tokens from a token endpoint (distribution's token specification).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, Method, header};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::signer::TokenSigner;

/// What a registry asks of its clients.
#[derive(Clone, Debug, Default)]
pub(super) enum Access {
    #[default]
    Open,
    Basic(BTreeMap<String, String>),
    Token(Box<TokenAuth>),
}

/// Token authentication as a registry demands and a token endpoint grants it.
///
/// Clones share the tokens issued, so that the endpoint may stand at another [`FakeRegistry`](super::FakeRegistry)
/// (see [`TokenAuth::realm`] and [`FakeRegistry::serve_tokens`](super::FakeRegistry::serve_tokens)).
///
/// ```
/// use unlade_test_support::{FakeRegistry, TokenAuth};
///
/// let registry = FakeRegistry::start();
/// registry.require_token(TokenAuth::new().user("alice", "secret").expires_in(None));
/// ```
#[derive(Clone, Debug)]
#[must_use = "it has an effect once it is given to a registry"]
pub struct TokenAuth {
    accounts: BTreeMap<String, String>,
    refresh_tokens: Vec<String>,
    post_status: Option<u16>,
    fields: TokenFields,
    expires_in: Option<u64>,
    valid_for: Option<Duration>,
    valid_uses: Option<u64>,
    failure: Option<(u16, String)>,
    realm: Option<String>,
    service: String,
    scope: Option<String>,
    extra_challenges: Vec<String>,
    one_header: bool,
    denied: Vec<String>,
    signer: Option<Arc<TokenSigner>>,
    issued: Arc<Mutex<Issued>>,
}

/// Under which name an endpoint returns the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenFields {
    /// `token`.
    Token,
    /// `access_token`.
    AccessToken,
    /// Both.
    Both,
}

#[derive(Debug, Default)]
struct Issued {
    count: u64,
    tokens: BTreeMap<String, Grant>,
}

#[derive(Debug)]
struct Grant {
    scopes: Vec<String>,
    until: Option<Instant>,
    uses_left: Option<u64>,
}

impl Default for TokenAuth {
    fn default() -> Self {
        Self::new()
    }
}

impl TokenAuth {
    /// Demands a token that anybody can get, good for as long as it is asked.
    pub fn new() -> Self {
        Self {
            accounts: BTreeMap::new(),
            refresh_tokens: Vec::new(),
            post_status: None,
            fields: TokenFields::Token,
            expires_in: Some(300),
            valid_for: None,
            valid_uses: None,
            failure: None,
            realm: None,
            service: "fake-registry".to_owned(),
            scope: None,
            extra_challenges: Vec::new(),
            one_header: false,
            denied: Vec::new(),
            signer: None,
            issued: Arc::default(),
        }
    }

    /// Grants tokens to this user only (and to others added so), by Basic at the endpoint.
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.accounts.insert(name.to_owned(), password.to_owned());
        self
    }

    /// Grants tokens for this identity token, by POST with `grant_type=refresh_token`.
    pub fn refresh_token(mut self, token: &str) -> Self {
        self.refresh_tokens.push(token.to_owned());
        self
    }

    /// Answers POST at the endpoint with this status; GET then takes the identity token as a Basic password.
    pub fn post_status(mut self, status: u16) -> Self {
        self.post_status = Some(status);
        self
    }

    /// Returns the token under these names; `token` if unsaid.
    pub fn fields(mut self, fields: TokenFields) -> Self {
        self.fields = fields;
        self
    }

    /// Tells this many seconds as `expires_in` (300 if unsaid), or nothing.
    pub fn expires_in(mut self, seconds: Option<u64>) -> Self {
        self.expires_in = seconds;
        self
    }

    /// Accepts a token for so long after it was issued, whatever `expires_in` told.
    pub fn valid_for(mut self, time: Duration) -> Self {
        self.valid_for = Some(time);
        self
    }

    /// Accepts a token for so many requests.
    pub fn valid_uses(mut self, uses: u64) -> Self {
        self.valid_uses = Some(uses);
        self
    }

    /// Fails every token request with this status and a message.
    pub fn fail(mut self, status: u16, message: &str) -> Self {
        self.failure = Some((status, message.to_owned()));
        self
    }

    /// Names another realm in the challenge.
    pub fn realm(mut self, url: &str) -> Self {
        self.realm = Some(url.to_owned());
        self
    }

    /// Names another service in the challenge.
    pub fn service(mut self, service: &str) -> Self {
        service.clone_into(&mut self.service);
        self
    }

    /// Names this scope in the challenge, in place of `repository:NAME:pull`; `""` leaves it out.
    pub fn scope(mut self, scope: &str) -> Self {
        self.scope = Some(scope.to_owned());
        self
    }

    /// Puts another challenge before the Bearer challenge, in a header of its own.
    pub fn extra_challenge(mut self, challenge: &str) -> Self {
        self.extra_challenges.push(challenge.to_owned());
        self
    }

    /// Puts all challenges into one header, separated by commas.
    pub fn challenges_in_one_header(mut self) -> Self {
        self.one_header = true;
        self
    }

    /// Issues tokens that do not cover this repository, though they were asked to.
    pub fn without_access_to(mut self, repository: &str) -> Self {
        self.denied.push(repository.to_owned());
        self
    }

    /// Issues tokens that are signed, for a real registry to check.
    pub fn signed_by(mut self, signer: Arc<TokenSigner>) -> Self {
        self.signer = Some(signer);
        self
    }

    /// Returns how many tokens were issued.
    pub fn tokens_issued(&self) -> u64 {
        self.issued().count
    }

    /// Makes every token issued so far worthless.
    pub fn revoke(&self) {
        self.issued().tokens.clear();
    }

    fn issued(&self) -> MutexGuard<'_, Issued> {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a request to the token endpoint: status and document.
    pub(super) fn answer(
        &self,
        method: &Method,
        query: Option<&str>,
        headers: &HeaderMap,
        body: &[u8],
    ) -> (u16, Value) {
        if let Some((status, message)) = &self.failure {
            return (*status, error_document("DENIED", message));
        }
        let mut form: Vec<(String, String)> = form_urlencoded::parse(query.unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
        let allowed = if method == Method::POST {
            if let Some(status) = self.post_status {
                return (status, error_document("UNSUPPORTED", "POST is not supported here"));
            }
            form.extend(form_urlencoded::parse(body).into_owned());
            self.allows_form(&form)
        } else {
            self.allows_basic(headers)
        };
        if !allowed {
            return (401, error_document("UNAUTHORIZED", "incorrect username or password"));
        }
        let scopes = form
            .iter()
            .filter(|(name, _)| name == "scope")
            .flat_map(|(_, value)| value.split(' '));
        let scopes = scopes.filter(|scope| !self.denies(scope)).map(str::to_owned).collect();
        let account = basic(headers).map(|(user, _)| user).unwrap_or_default();
        (200, self.issue(&account, scopes))
    }

    fn allows_basic(&self, headers: &HeaderMap) -> bool {
        match basic(headers) {
            None => self.accounts.is_empty() && self.refresh_tokens.is_empty(),
            Some((user, password)) => {
                self.accounts.get(&user) == Some(&password) || self.refresh_tokens.contains(&password)
            }
        }
    }

    fn allows_form(&self, form: &[(String, String)]) -> bool {
        let field = |wanted: &str| {
            form.iter()
                .find(|(name, _)| name == wanted)
                .map(|(_, value)| value.as_str())
        };
        match field("grant_type") {
            Some("refresh_token") => {
                field("refresh_token").is_some_and(|token| self.refresh_tokens.iter().any(|own| own == token))
            }
            Some("password") => field("username")
                .and_then(|user| self.accounts.get(user))
                .is_some_and(|password| Some(password.as_str()) == field("password")),
            _ => false,
        }
    }

    fn denies(&self, scope: &str) -> bool {
        self.denied
            .iter()
            .any(|repository| scope.starts_with(&format!("repository:{repository}:")))
    }

    fn issue(&self, account: &str, scopes: Vec<String>) -> Value {
        let mut issued = self.issued();
        issued.count += 1;
        let token = match &self.signer {
            Some(signer) => signer.sign(account, &self.service, &scopes, issued.count),
            None => format!("fake-token-{}", issued.count),
        };
        let until = self.valid_for.map(|time| Instant::now() + time);
        issued.tokens.insert(
            token.clone(),
            Grant {
                scopes,
                until,
                uses_left: self.valid_uses,
            },
        );
        let mut document = json!({});
        if matches!(self.fields, TokenFields::Token | TokenFields::Both) {
            document["token"] = json!(token);
        }
        if matches!(self.fields, TokenFields::AccessToken | TokenFields::Both) {
            document["access_token"] = json!(token);
        }
        if let Some(seconds) = self.expires_in {
            document["expires_in"] = json!(seconds);
        }
        document
    }

    /// Counts a use of the token; says what is wrong with it, in the words of RFC 6750.
    fn check(&self, token: &str, repository: Option<&str>) -> Result<(), &'static str> {
        let mut issued = self.issued();
        let grant = issued.tokens.get_mut(token).ok_or("invalid_token")?;
        if grant.until.is_some_and(|until| Instant::now() > until) {
            return Err("invalid_token");
        }
        if let Some(uses) = &mut grant.uses_left {
            *uses = uses.checked_sub(1).ok_or("invalid_token")?;
        }
        let covered = repository.is_none_or(|repository| grant.scopes.iter().any(|scope| covers(scope, repository)));
        if covered { Ok(()) } else { Err("insufficient_scope") }
    }
}

impl Access {
    /// Decides about a request; if it may not pass, returns the challenges to answer with, one header each.
    pub(super) fn check(&self, headers: &HeaderMap, repository: Option<&str>, url: &str) -> Result<(), Vec<String>> {
        match self {
            Self::Open => Ok(()),
            Self::Basic(accounts) => match basic(headers) {
                Some((user, password)) if accounts.get(&user) == Some(&password) => Ok(()),
                _ => Err(self.challenges(repository, url, None)),
            },
            Self::Token(auth) => {
                let error = match bearer(headers) {
                    None => None,
                    Some(token) => match auth.check(token, repository) {
                        Ok(()) => return Ok(()),
                        Err(error) => Some(error),
                    },
                };
                Err(self.challenges(repository, url, error))
            }
        }
    }

    /// Returns the challenges for a request, whatever it carries.
    pub(super) fn challenges(&self, repository: Option<&str>, url: &str, error: Option<&str>) -> Vec<String> {
        let Self::Token(auth) = self else {
            return vec!["Basic realm=\"fake-registry\"".to_owned()];
        };
        let realm = auth.realm.clone().unwrap_or_else(|| format!("{url}/token"));
        let mut bearer = format!("Bearer realm=\"{realm}\",service=\"{}\"", auth.service);
        let scope = auth
            .scope
            .clone()
            .or_else(|| repository.map(|repository| format!("repository:{repository}:pull")))
            .unwrap_or_default();
        if !scope.is_empty() {
            bearer += ",scope=\"";
            bearer += &scope;
            bearer += "\"";
        }
        if let Some(error) = error {
            bearer += ",error=\"";
            bearer += error;
            bearer += "\"";
        }
        let mut challenges = auth.extra_challenges.clone();
        challenges.push(bearer);
        if auth.one_header {
            vec![challenges.join(", ")]
        } else {
            challenges
        }
    }
}

/// Returns an error document in the registry's form.
pub(super) fn error_document(code: &str, message: &str) -> Value {
    json!({"errors": [{"code": code, "message": message}]})
}

fn covers(scope: &str, repository: &str) -> bool {
    let actions = scope
        .strip_prefix("repository:")
        .and_then(|rest| rest.strip_prefix(repository));
    let actions = actions.and_then(|rest| rest.strip_prefix(':')).unwrap_or_default();
    actions.split(',').any(|action| matches!(action, "pull" | "*"))
}

fn authorization<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let (own, value) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    own.eq_ignore_ascii_case(scheme).then_some(value)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    authorization(headers, "Bearer")
}

fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let decoded = BASE64_STANDARD.decode(authorization(headers, "Basic")?).ok()?;
    let (user, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}
