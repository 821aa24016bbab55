package io.bowstring.spark;

import org.apache.spark.sql.connector.write.LogicalWriteInfo;
import org.apache.spark.sql.connector.write.PhysicalWriteInfo;
import org.apache.spark.sql.connector.write.WriterCommitMessage;
import org.apache.spark.sql.connector.write.streaming.StreamingDataWriterFactory;
import org.apache.spark.sql.connector.write.streaming.StreamingWrite;

/**
 * A sink on the driver. Each task appends as a writer of its own and comes back with a receipt; the commit names the receipts of the tasks
 * that Spark says have won. What failed, speculative or repeated attempts have staged vanishes with it, and a repeated commit changes
 * nothing.
 */
final class StreamSink implements StreamingWrite {
  private final SinkPlan plan;
  private final String producer;
  private final String run;

  private StreamSink(SinkPlan plan, String producer, String run) {
    this.plan = plan;
    this.producer = producer;
    this.run = run;
  }

  /** For a streaming query; Spark makes one per micro-batch. */
  static StreamSink streaming(LogicalWriteInfo info, String[] options) {
    refuseEpoch(options);
    String producer = Options.value(options, "producer");
    return new StreamSink(
        SinkPlan.prepare(options, info.schema()), producer == null ? info.queryId() : producer, EpochIdentity.runOf(options));
  }

  /** Refuses an option that is for batch writes alone. */
  static void refuseEpoch(String[] options) {
    if (Options.value(options, "epoch") != null) {
      throw new BowstringException(
          "invalid_argument", false, "option 'epoch' is for batch writes: a streaming query's epochs are its micro-batches");
    }
  }

  @Override
  public StreamingDataWriterFactory createStreamingWriterFactory(PhysicalWriteInfo info) {
    return new TaskWriterFactory(plan, new EpochIdentity(producer, run, -1), false);
  }

  /** Receipts say who has won: no need to ask the driver. */
  @Override
  public boolean useCommitCoordinator() {
    return false;
  }

  @Override
  public void commit(long epoch, WriterCommitMessage[] messages) {
    plan.commit(new EpochIdentity(producer, run, epoch), messages);
  }

  @Override
  public void abort(long epoch, WriterCommitMessage[] messages) {
    plan.abort(new EpochIdentity(producer, run, epoch));
  }
}
