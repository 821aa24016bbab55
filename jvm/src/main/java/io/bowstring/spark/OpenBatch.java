package io.bowstring.spark;

import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.catalyst.expressions.UnsafeRow;

/** The batch that a task fills: rows become columns of Arrow, which are handed to the library a batch at a time. */
final class OpenBatch implements AutoCloseable {
  private final RowColumns columns;
  private final int batchRows;
  private final long batchBytes;
  private int rows;

  /** How large the batch is has to be looked at when it has so many rows. */
  private int lookAt = 1;

  /** Bytes that the batch may still take, when it was last looked at. */
  private long left;

  /** Bytes of Spark's rows since then. */
  private long unseen;

  OpenBatch(SinkPlan plan, int task) {
    batchRows = plan.batchRows;
    batchBytes = plan.batchBytes();
    columns = RowColumns.of(plan.schema, "bowstring-writer-" + task);
  }

  boolean isEmpty() {
    return rows == 0;
  }

  /** Whether the batch is large enough now to be sent. The row may be used again by the caller. */
  boolean write(InternalRow row) {
    columns.write(row);
    rows++;
    if (row instanceof UnsafeRow unsafe) {
      unseen += unsafe.getSizeInBytes();
    }
    return (rows >= lookAt || unseen >= left) && isFull();
  }

  /**
   * If it is not, this says when to look again: when there are twice as many rows, half as many as would fill it by their average, or when
   * Spark's rows have taken what is left, whichever comes first.
   */
  private boolean isFull() {
    long bytes = columns.bytes(rows);
    if (rows >= batchRows || bytes >= batchBytes) {
      return true;
    }
    left = batchBytes - bytes;
    unseen = 0;
    long more = left * rows / Math.max(1, bytes) / 2 + 1;
    lookAt = (int) Math.min(batchRows, rows + Math.min(more, rows));
    return false;
  }

  /** Hands the rows, if there are any, to a writer of the library, and begins anew. */
  void send(long writer) {
    if (rows > 0) {
      columns.send(writer, rows);
    }
    rows = 0;
    lookAt = 1;
    unseen = 0;
  }

  @Override
  public void close() {
    columns.close();
  }
}
