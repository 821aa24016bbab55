//! The verifier: reads all that is there when everything is over.

use std::sync::Arc;
use std::time::Duration;

use bowstring::client::{Client, ConsumerOptions, Error};
use bowstring::wire::proto::StreamDescription;

use crate::net::connect;
use crate::oracle::Oracle;

const WHO: &str = "verifier";

/// Waits for its time, reads every stream, and has the oracle judge.
pub(crate) async fn verify(oracle: Arc<Oracle>) {
    while !oracle.verifies() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let client = connect(Duration::from_secs(30)).await;
    for stream in &oracle.plan.streams {
        let asked_at = oracle.clock.elapsed();
        match read(&oracle, &client, &stream.name).await {
            Ok(description) => {
                oracle.described(&description, asked_at);
                oracle.check(&description);
            }
            Err(error) => oracle.fail(format!("{WHO}: {}: {error}", stream.name)),
        }
    }
}

async fn read(oracle: &Oracle, client: &Client, stream: &str) -> Result<StreamDescription, Error> {
    let description = client.describe_stream(stream).await?;
    let options = ConsumerOptions { follow: false, consumer: Some(WHO.to_owned()), ..ConsumerOptions::default() };
    let mut consumer = client.consumer(stream, options).await?;
    let mut count = 0;
    while let Some(delivered) = consumer.next(None).await? {
        oracle.delivered(stream, WHO, None, &delivered);
        count += 1;
    }
    let expected: u64 = description.partitions.iter().map(|partition| partition.end - partition.start).sum();
    if count != expected {
        oracle.fail(format!("{WHO}: {stream} has {count} batches, not {expected}"));
    }
    Ok(description)
}
