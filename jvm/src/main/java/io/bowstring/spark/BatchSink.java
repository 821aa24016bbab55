package io.bowstring.spark;

import java.util.UUID;
import org.apache.spark.sql.connector.write.BatchWrite;
import org.apache.spark.sql.connector.write.DataWriterFactory;
import org.apache.spark.sql.connector.write.LogicalWriteInfo;
import org.apache.spark.sql.connector.write.PhysicalWriteInfo;
import org.apache.spark.sql.connector.write.WriterCommitMessage;

/** Writes a DataFrame as one epoch: the options', else foreachBatch's micro-batch's, else one of its own. */
final class BatchSink implements BatchWrite {
  private final SinkPlan plan;
  private final EpochIdentity identity;

  /** Whether a task may open the epoch again: where its run is shared with others, it may be tried again within it. */
  private final boolean reopens;

  BatchSink(LogicalWriteInfo info, String[] options) {
    RealTimeMode.refuse(options);
    plan = SinkPlan.prepare(options, info.schema());
    String producer = Options.value(options, "producer");
    String epoch = Options.value(options, "epoch");
    String run = Options.value(options, "run");
    // A run of its own: what an earlier try has staged is dropped, not gone on with.
    String ownRun = run == null ? UUID.randomUUID().toString() : run;
    if (producer != null && epoch != null) {
      identity = new EpochIdentity(producer, ownRun, Long.parseLong(epoch));
      reopens = run != null;
      return;
    }
    EpochIdentity around = EpochIdentity.ofMicroBatch(options);
    if (around != null) {
      identity = around;
      reopens = true;
      return;
    }
    if (producer != null) {
      throw new BowstringException(
          "invalid_argument", false, "option 'producer' needs option 'epoch' too, outside of a streaming query's foreachBatch");
    }
    identity = new EpochIdentity("spark-batch-" + UUID.randomUUID(), ownRun, 0);
    reopens = run != null;
  }

  @Override
  public DataWriterFactory createBatchWriterFactory(PhysicalWriteInfo info) {
    return new TaskWriterFactory(plan, identity, reopens);
  }

  /** Receipts say who has won: no need to ask the driver. */
  @Override
  public boolean useCommitCoordinator() {
    return false;
  }

  @Override
  public void commit(WriterCommitMessage[] messages) {
    plan.commit(identity, messages);
  }

  @Override
  public void abort(WriterCommitMessage[] messages) {
    plan.abort(identity);
  }
}
