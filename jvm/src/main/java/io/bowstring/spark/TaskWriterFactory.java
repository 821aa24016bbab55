package io.bowstring.spark;

import org.apache.spark.TaskContext;
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
    NativeLibrary.check();
    return new TaskWriter(plan, identity, partition, reopens);
  }

  @Override
  public DataWriter<InternalRow> createWriter(int partition, long taskId, long epoch) {
    NativeLibrary.check();
    // With Trigger.Continuous there is none.
    TaskContext task = TaskContext.get();
    if (task != null && task.getLocalProperty(EpochIdentity.BATCH_ID) == null) {
      throw new BowstringException(
          "invalid_argument",
          false,
          "no micro-batch is around this task: Trigger.Continuous runs an epoch again with other rows, so that it cannot be exactly once; use"
              + " another trigger");
    }
    return new TaskWriter(plan, new EpochIdentity(identity.producer(), identity.run(), epoch), partition, reopens);
  }
}
