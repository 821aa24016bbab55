//! Who may do what: tokens, JWTs, permissions and the audit log, over real sockets.

mod audit;
mod clients;
mod console;
mod cost;
mod ends;
#[cfg(feature = "formats")]
mod ingest;
mod jwt;
mod permissions;
mod quotas;
mod stock;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arrow_flight::{Action, Ticket};
use bowstring::client::{Client, ClientOptions, TokenSource};
use bowstring::server::{AuthConfig, Permissions, Server, ServerConfig, issue_token, revoke_token};
use bowstring::wire::secret::Secret;
use futures::TryStreamExt;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::server_support::{flight, messages, numbers, path, start};

/// A file of tokens in a folder of its own.
struct Tokens {
    folder: tempfile::TempDir,
}

impl Tokens {
    /// With one for the operator, so that the file is there.
    fn new() -> (Self, Secret) {
        let tokens = Self { folder: tempfile::tempdir().unwrap() };
        let operator = tokens.issue("operator", &["admin:*"]);
        (tokens, operator)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("tokens.json")
    }

    fn issue(&self, name: &str, permissions: &[&str]) -> Secret {
        self.issue_for(name, permissions, None)
    }

    fn issue_for(&self, name: &str, permissions: &[&str], lasts: Option<Duration>) -> Secret {
        let permissions = Permissions::parse(permissions.iter().copied()).unwrap();
        issue_token(&self.path(), name, permissions, lasts, now()).unwrap().0
    }

    fn revoke(&self, name: &str) {
        revoke_token(&self.path(), name, now()).unwrap();
    }

    fn config(&self) -> ServerConfig {
        ServerConfig { auth: AuthConfig { tokens: Some(self.path()), ..AuthConfig::default() }, ..ServerConfig::default() }
    }

    async fn server(&self) -> Server {
        start(self.config()).await
    }
}

#[expect(clippy::disallowed_methods, reason = "a token's times are the wall's clock's")]
fn now() -> SystemTime {
    SystemTime::now()
}

fn options(token: TokenSource) -> ClientOptions {
    ClientOptions { token, retry_deadline: Duration::from_secs(10), ..ClientOptions::default() }
}

async fn connect_as(server: &Server, token: &Secret) -> Client {
    Client::connect(&server.url(), options(TokenSource::Fixed(token.clone()))).await.unwrap()
}

/// A request with a bearer.
fn with<T>(token: Option<&str>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    request
}

async fn call_as<Q, A>(channel: &Channel, token: Option<&str>, method: &str, request: Q) -> Result<A, Status>
where
    Q: prost::Message + Send + Sync + 'static,
    A: prost::Message + Default + Send + Sync + 'static,
{
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let path = format!("/bowstring.v1.Control/{method}").parse().unwrap();
    Ok(grpc.unary(with(token, request), path, tonic_prost::ProstCodec::default()).await?.into_inner())
}

async fn put_as(channel: &Channel, token: Option<&str>, stream: &str) -> Result<(), Status> {
    let messages = futures::stream::iter(messages(path(stream), vec![numbers(0..3)]));
    flight(channel).do_put(with(token, messages)).await?.into_inner().try_collect::<Vec<_>>().await.map(drop)
}

async fn read_as(channel: &Channel, token: Option<&str>, ticket: &str) -> Result<(), Status> {
    let ticket = Ticket { ticket: ticket.to_owned().into() };
    flight(channel).do_get(with(token, ticket)).await?.into_inner().try_collect::<Vec<_>>().await.map(drop)
}

async fn act_as(channel: &Channel, token: Option<&str>, action: &str, body: &str) -> Result<serde_json::Value, Status> {
    let action = Action { r#type: action.to_owned(), body: body.to_owned().into() };
    let answers: Vec<_> = flight(channel).do_action(with(token, action)).await?.into_inner().try_collect().await?;
    Ok(serde_json::from_slice(&answers[0].body).unwrap())
}

/// A function that gives what is in the cell at the time.
fn function(cell: &Arc<parking_lot::Mutex<Secret>>) -> TokenSource {
    let cell = cell.clone();
    TokenSource::Function(Arc::new(move || Ok(cell.lock().clone())))
}
