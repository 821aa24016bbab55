package io.bowstring.spark;

import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.connector.write.DataWriter;
import org.apache.spark.sql.connector.write.WriterCommitMessage;

/** Writes the rows of one task attempt, as a part of an epoch. */
final class TaskWriter implements DataWriter<InternalRow> {
  private final OpenBatch batch;
  private final long writer;

  TaskWriter(SinkPlan plan, EpochIdentity identity, int task, boolean reopens) {
    batch = new OpenBatch(plan, task);
    try {
      writer =
          Native.openWriter(
              plan.options, plan.schema, plan.target, identity.producer(), identity.run(), identity.epoch(), task, reopens);
    } catch (Throwable error) {
      batch.close();
      throw error;
    }
  }

  @Override
  public void write(InternalRow row) {
    if (batch.write(row)) {
      batch.send(writer);
    }
  }

  @Override
  public WriterCommitMessage commit() {
    batch.send(writer);
    return TaskResult.of(Native.finishWriter(writer));
  }

  /** What was staged vanishes with the epoch's end: no commit names it. */
  @Override
  public void abort() {}

  @Override
  public void close() {
    Native.closeWriter(writer);
    batch.close();
  }
}
