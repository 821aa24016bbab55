package io.bowstring.spark;

import java.io.Serializable;
import java.util.ArrayList;
import java.util.List;
import org.apache.spark.sql.connector.write.WriterCommitMessage;
import org.apache.spark.sql.internal.SQLConf;
import org.apache.spark.sql.types.StructType;

/** What a write's tasks have to know, and the driver's two last words. */
final class SinkPlan implements Serializable {
  private static final long serialVersionUID = 1L;
  private static final String BATCH_ROWS = "spark.sql.execution.arrow.maxRecordsPerBatch";

  /** Rows of a batch, unless Spark's own setting says otherwise: large enough that what each batch costs does not matter. */
  private static final int BATCH_ROWS_DEFAULT = 65_536;

  final String[] options;
  final String schema;

  /** The stream's partitions, the most bytes of a batch, and nanoseconds to linger in Real-time Mode. */
  final long[] target;

  final int batchRows;

  private SinkPlan(String[] options, String schema, long[] target, int batchRows) {
    this.options = options;
    this.schema = schema;
    this.target = target;
    this.batchRows = batchRows;
  }

  /** Checks all that can be checked before a task runs, and creates the stream if need be. */
  static SinkPlan prepare(String[] options, StructType schema) {
    String json = schema.json();
    long[] target = Native.prepareSink(options, json);
    int rows = Integer.parseInt(SQLConf.get().getConfString(BATCH_ROWS, Integer.toString(BATCH_ROWS_DEFAULT)));
    return new SinkPlan(options, json, target, rows > 0 ? rows : Integer.MAX_VALUE);
  }

  long batchBytes() {
    return target[1];
  }

  long lingerNanos() {
    return target[2];
  }

  /** Makes the winners' batches visible, all at once; a repetition changes nothing. */
  void commit(EpochIdentity identity, WriterCommitMessage[] messages) {
    List<byte[]> receipts = new ArrayList<>();
    for (WriterCommitMessage message : messages) {
      byte[] receipt = TaskResult.receipt(message);
      if (receipt != null) {
        receipts.add(receipt);
      }
    }
    Native.commitEpoch(options, identity.producer(), identity.run(), identity.epoch(), receipts.toArray(new byte[0][]));
  }

  /** Gives back what a failed epoch has staged. A stopped query calls it with its thread interrupted, which must not end this, too. */
  void abort(EpochIdentity identity) {
    boolean isInterrupted = Thread.interrupted();
    try {
      Native.abortEpoch(options, identity.producer(), identity.run(), identity.epoch());
    } finally {
      if (isInterrupted) {
        Thread.currentThread().interrupt();
      }
    }
  }
}
