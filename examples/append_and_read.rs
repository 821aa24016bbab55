//! A coordinator in this process, a producer that appends to it and a consumer that reads and acks.
//!
//! `cargo run --example append_and_read`

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch};
use bowstring::client::{Client, ClientOptions, ConsumerOptions, ProducerOptions};
use bowstring::server::{Server, ServerConfig};
use bytes::Bytes;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::start(ServerConfig { listen: "127.0.0.1:0".parse()?, http: None, ..ServerConfig::default() }).await?;
    let client = Client::connect(&server.url(), ClientOptions::default()).await?;

    let mut producer = client.producer("numbers", ProducerOptions::default())?;
    for start in [0, 100, 200] {
        let column = Arc::new(Int64Array::from_iter_values(start..start + 100));
        let batch = RecordBatch::try_from_iter([("n", column as _)])?;
        producer.append(&batch, None, Bytes::new()).await?;
    }
    producer.complete().await?; // all is stored, and readers will get the end

    let options = ConsumerOptions { subscription: Some("example".into()), ..ConsumerOptions::default() };
    let mut consumer = client.consumer("numbers", options).await?;
    let mut rows = 0;
    while let Some(delivered) = consumer.next(None).await? {
        rows += delivered.batch.num_rows();
        consumer.ack(delivered.partition, delivered.offset.plus(1))?;
    }
    consumer.close().await?;
    server.shutdown(Duration::from_secs(5)).await;

    assert_eq!(rows, 300, "every row arrives once");
    println!("{rows} rows appended, read and acked");
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_runs() {
        super::main().expect("the example runs to its end");
    }
}
