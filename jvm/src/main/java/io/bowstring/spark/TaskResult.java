package io.bowstring.spark;

import org.apache.spark.sql.connector.write.WriterCommitMessage;
import org.apache.spark.sql.execution.datasources.v2.python.PythonWriterCommitMessage;

/**
 * What a task sends to the driver: its receipt, a few hundred bytes, whatever it has written. It is of a class of Spark's own that carries
 * bytes: Spark reads it with a class loader that does not know this jar's classes, if the jar came by ADD JAR or as a session's artifact.
 */
final class TaskResult {
  private static final byte[] NONE = {};

  private TaskResult() {}

  /** The receipt is null if the task had no rows, or if the epoch was committed before. */
  static WriterCommitMessage of(byte[] receipt) {
    return new PythonWriterCommitMessage(receipt == null ? NONE : receipt);
  }

  /** Null if there is none. */
  static byte[] receipt(WriterCommitMessage message) {
    byte[] receipt = message instanceof PythonWriterCommitMessage result ? result.pickledMessage() : NONE;
    return receipt.length == 0 ? null : receipt;
  }
}
