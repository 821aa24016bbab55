package io.bowstring.spark;

import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.connector.write.DataWriter;
import org.apache.spark.sql.connector.write.DataWriterFactory;
import org.apache.spark.sql.connector.write.streaming.StreamingDataWriterFactory;

/** Makes a writer for each task attempt, on the executors. */
final class TaskWriterFactory implements DataWriterFactory, StreamingDataWriterFactory {
  private static final long serialVersionUID = 1L;

  private final SinkPlan plan;
  private final EpochIdentity identity;
  private final boolean reopens;

  TaskWriterFactory(SinkPlan plan, EpochIdentity identity, boolean reopens) {
    this.plan = plan;
    this.identity = identity;
    this.reopens = reopens;
  }

  @Override
  public DataWriter<InternalRow> createWriter(int partition, long taskId) {
    return new TaskWriter(plan, identity, partition, reopens);
  }

  @Override
  public DataWriter<InternalRow> createWriter(int partition, long taskId, long epoch) {
    return new TaskWriter(plan, new EpochIdentity(identity.producer(), identity.run(), epoch), partition, reopens);
  }
}
