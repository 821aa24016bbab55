//! Stock Flight clients: the handshake gives them their bearer.

use arrow_flight::{BasicAuth, HandshakeRequest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bowstring::server::ServerConfig;
use futures::TryStreamExt;
use prost::Message as _;
use tonic::Request;

use super::super::server_support::{channel, code, flight, put, refused, start, stop};
use super::{Tokens, put_as};

#[tokio::test]
async fn a_handshake_takes_the_token_as_a_password_and_gives_the_bearer() {
    let (tokens, operator) = Tokens::new();
    let server = tokens.server().await;
    let channel = channel(server.listen_addr()).await;
    let shake = async |header: Option<String>, payload: Vec<u8>| {
        let requests = futures::stream::iter([HandshakeRequest { protocol_version: 0, payload: payload.into() }]);
        let mut request = Request::new(requests);
        if let Some(header) = header {
            request.metadata_mut().insert("authorization", header.parse().unwrap());
        }
        let response = flight(&channel).handshake(request).await?;
        let bearer = response.metadata().get("authorization").map(|bearer| bearer.to_str().unwrap().to_owned());
        let answers: Vec<_> = response.into_inner().try_collect().await?;
        Ok::<_, tonic::Status>((bearer, String::from_utf8(answers[0].payload.to_vec()).unwrap()))
    };
    let token = operator.reveal();
    let basic = |password: &str| Some(format!("Basic {}", STANDARD.encode(format!("any:{password}"))));
    let auth = |password: &str| BasicAuth { username: "any".into(), password: password.into() }.encode_to_vec();
    for (header, payload) in
        [(basic(token), Vec::new()), (None, auth(token)), (None, token.into()), (Some(format!("Bearer {token}")), Vec::new())]
    {
        let (bearer, payload) = shake(header, payload).await.unwrap();
        assert_eq!((bearer, payload.as_str()), (Some(format!("Bearer {token}")), token));
        put_as(&channel, Some(&payload), "s").await.unwrap();
    }
    for (header, payload) in [(basic("wrong"), Vec::new()), (None, auth("wrong")), (None, Vec::new()), (Some("Basic !".into()), Vec::new())]
    {
        assert_eq!(code(&shake(header, payload).await.unwrap_err()), "unauthenticated");
    }
    stop(server).await;
}

#[tokio::test]
async fn without_access_to_control_a_handshake_is_not_offered_and_nobody_is_asked() {
    let server = start(ServerConfig::default()).await;
    let channel = channel(server.listen_addr()).await;
    let shaken = flight(&channel).handshake(futures::stream::iter([HandshakeRequest::default()])).await;
    assert_eq!(refused(shaken.map(drop)), "unimplemented");
    put(&channel, super::path("s"), vec![super::numbers(0..1)]).await.unwrap();
    stop(server).await;
}
