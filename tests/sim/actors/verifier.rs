//! The verifier: reads all that is there when everything is over.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{TimestampMicrosecondType, UInt32Type, UInt64Type};
use bowstring::client::{Client, ConsumerOptions, Error};
use bowstring::engine::{Code, LeaseId};
use bowstring::wire::proto::StreamDescription;

use crate::batches::rows_of;
use crate::net::connect;
use crate::oracle::{Letter, Oracle};
use crate::plan::SharingPlan;

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
        for plan in &stream.sharings {
            match letters(&oracle, &client, &stream.name, plan).await {
                Ok(letters) => oracle.check_sharing(&stream.name, plan, &letters),
                Err(failure) => oracle.fail(format!("{WHO}: {}: {failure}", plan.letters(&stream.name))),
            }
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

/// All dead letters of a subscription.
async fn letters(oracle: &Oracle, client: &Client, stream: &str, plan: &SharingPlan) -> Result<Vec<Letter>, String> {
    // That one has been written may be forgotten; then it is found to be there.
    loop {
        let description = client.describe_stream(stream).await.map_err(|error| error.to_string())?;
        let found = description.subscriptions.iter().filter(|found| found.subscription == plan.subscription);
        if found.flat_map(|found| &found.partitions).all(|partition| partition.shares.is_none_or(|shares| shares.dying == 0)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let options = ConsumerOptions { follow: false, consumer: Some(WHO.to_owned()), ..ConsumerOptions::default() };
    let mut consumer = match client.consumer(&plan.letters(stream), options).await {
        Err(error) if error.code() == Code::StreamNotFound => return Ok(Vec::new()),
        opened => opened.map_err(|error| error.to_string())?,
    };
    let mut letters = Vec::new();
    while let Some(delivered) = consumer.next(None).await.map_err(|error| error.to_string())? {
        let name = String::from_utf8(delivered.user.to_vec()).map_err(|error| error.to_string())?;
        let letter =
            letter(&delivered.batch, name, (stream, &plan.subscription)).map_err(|failure| format!("{}: {failure}", delivered.offset))?;
        oracle.note(format!("{WHO}: {letter:?}"));
        letters.push(letter);
    }
    Ok(letters)
}

/// What a dead letter says.
fn letter(batch: &RecordBatch, name: String, from: (&str, &str)) -> Result<Letter, String> {
    let column = |name: &str| batch.column_by_name(&format!("bowstring_{name}")).ok_or_else(|| format!("it has no {name}"));
    let text = |name: &str| Ok::<_, String>(column(name)?.as_string::<i32>().value(0).to_owned());
    let small = |name: &str| Ok::<_, String>(column(name)?.as_primitive::<UInt32Type>().value(0));
    if batch.num_rows() == 0 {
        return Err("it has no rows".to_owned());
    }
    let (rows, _) = rows_of(batch, &name)?;
    let told = column("row")?.as_primitive::<UInt64Type>();
    if told.null_count() > 0 || *told.values() != rows {
        return Err(format!("it says that rows {rows:?} are {told:?}"));
    }
    let origin = (text("stream")?, text("subscription")?);
    if (origin.0.as_str(), origin.1.as_str()) != from || text("reason")?.is_empty() {
        return Err(format!("it says that it is of {origin:?}, since {:?}", text("reason")?));
    }
    Ok(Letter {
        partition: small("partition")?,
        offset: column("offset")?.as_primitive::<UInt64Type>().value(0),
        name,
        rows,
        deliveries: small("deliveries")?,
        died_at: LeaseId(u64::try_from(column("died_at")?.as_primitive::<TimestampMicrosecondType>().value(0)).unwrap_or_default()),
    })
}
