package io.bowstring.spark;

import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.connector.write.DataWriter;
import org.apache.spark.sql.connector.write.WriterCommitMessage;

/** Writes the rows of one task attempt: columns of Arrow, handed to the library a batch at a time. */
final class TaskWriter implements DataWriter<InternalRow> {
  private final RowColumns columns;
  private final int batchRows;
  private final long batchBytes;
  private long writer;
  private int rows;

  /** How large the batch is has to be looked at when it has so many rows. */
  private int lookAt = 1;

  TaskWriter(SinkPlan plan, EpochIdentity identity, int task, boolean reopens) {
    batchRows = plan.batchRows;
    batchBytes = plan.target[1];
    columns = new RowColumns(plan.schema, "bowstring-writer-" + task);
    try {
      writer =
          Native.openWriter(
              plan.options, plan.schema, plan.target, identity.producer(), identity.run(), identity.epoch(), task, reopens);
    } catch (Throwable error) {
      columns.close();
      throw error;
    }
  }

  @Override
  public void write(InternalRow row) {
    columns.write(row);
    rows++;
    if (rows >= lookAt) {
      look();
    }
  }

  /** Sends the batch if it is large enough; else says when to look again: often enough that it grows by a half at most meanwhile. */
  private void look() {
    long bytes = columns.bytes(rows);
    if (rows >= batchRows || bytes >= batchBytes) {
      send();
      return;
    }
    long left = (batchBytes - bytes) * rows / Math.max(1, bytes) / 2 + 1;
    lookAt = (int) Math.min(batchRows, rows + Math.min(left, rows));
  }

  private void send() {
    if (rows > 0) {
      columns.send(writer, rows);
    }
    rows = 0;
    lookAt = 1;
  }

  @Override
  public WriterCommitMessage commit() {
    send();
    return TaskResult.of(Native.finishWriter(writer));
  }

  /** What was staged vanishes with the epoch's end: no commit names it. */
  @Override
  public void abort() {}

  @Override
  public void close() {
    Native.closeWriter(writer);
    columns.close();
  }
}
