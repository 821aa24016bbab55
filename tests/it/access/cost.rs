//! What asking costs: printed, not asserted.

use bowstring::client::Client;
use bowstring::client::TokenSource;
use bowstring::server::{AuditConfig, Server, ServerConfig};

use super::super::server_support::{start, stop};
use super::{Tokens, options};

const CALLS: u32 = 2_000;

#[expect(clippy::disallowed_methods, reason = "a measurement")]
async fn micros_per_call(server: &Server, token: TokenSource) -> f64 {
    let client = Client::connect(&server.url(), options(token)).await.unwrap();
    client.list_streams().await.unwrap();
    let started = std::time::Instant::now();
    for _ in 0..CALLS {
        client.list_streams().await.unwrap();
    }
    started.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS)
}

/// `cargo test --release --test it -- --nocapture access::cost` shows what counts; a debug build is many times slower.
#[tokio::test]
async fn what_a_call_costs_with_and_without_being_asked_is_printed() {
    let (tokens, operator) = Tokens::new();
    let (open, asked) = (start(ServerConfig::default()).await, tokens.server().await);
    let file = Some(tokens.folder.path().join("audit.log"));
    let audited = start(ServerConfig { audit: AuditConfig { file }, ..tokens.config() }).await;
    for round in 0..3 {
        let without = micros_per_call(&open, TokenSource::None).await;
        let with = micros_per_call(&asked, TokenSource::Fixed(operator.clone())).await;
        let written = micros_per_call(&audited, TokenSource::Fixed(operator.clone())).await;
        println!(
            "round {round}: {without:.1} us a call, {:+.1} with a token, {:+.1} with the audit log, too",
            with - without,
            written - without
        );
    }
    stop(open).await;
    stop(asked).await;
    stop(audited).await;
}
