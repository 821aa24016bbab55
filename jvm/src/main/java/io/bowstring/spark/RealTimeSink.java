package io.bowstring.spark;

import org.apache.spark.sql.connector.write.LogicalWriteInfo;
import org.apache.spark.sql.connector.write.PhysicalWriteInfo;
import org.apache.spark.sql.connector.write.WriterCommitMessage;
import org.apache.spark.sql.connector.write.streaming.StreamingDataWriterFactory;
import org.apache.spark.sql.connector.write.streaming.StreamingWrite;

/**
 * A sink on the driver of a query in Real-time Mode, <b>at least once</b>. Each task appends as a producer of its own, and rows are visible
 * as they arrive. Spark notes how far the sources were read when all tasks have ended and their rows are stored: a batch that fails or is
 * stopped before runs again from its start, to another end, and what it had appended comes again. A sink is not told which rows those are.
 */
final class RealTimeSink implements StreamingWrite {
  private final SinkPlan plan;
  private final String producer;
  private final String run;

  private RealTimeSink(SinkPlan plan, String producer, String run) {
    this.plan = plan;
    this.producer = producer;
    this.run = run;
  }

  /** Spark makes one per batch. */
  static RealTimeSink of(LogicalWriteInfo info, String[] options) {
    StreamSink.refuseEpoch(options);
    String producer = Options.value(options, "producer");
    return new RealTimeSink(
        SinkPlan.prepare(options, info.schema()), producer == null ? info.queryId() : producer, EpochIdentity.runOf(options));
  }

  @Override
  public StreamingDataWriterFactory createStreamingWriterFactory(PhysicalWriteInfo info) {
    // A former run of the query may have been one with epochs: what it has left staged would hold its room for ever.
    plan.abort(new EpochIdentity(producer, run, 0));
    return new RealTimeWriterFactory(plan, producer);
  }

  /** A newer attempt of a task fences the older: no need to ask the driver. */
  @Override
  public boolean useCommitCoordinator() {
    return false;
  }

  /** All is stored and visible. */
  @Override
  public void commit(long epoch, WriterCommitMessage[] messages) {}

  /** What was appended stays. */
  @Override
  public void abort(long epoch, WriterCommitMessage[] messages) {}
}
