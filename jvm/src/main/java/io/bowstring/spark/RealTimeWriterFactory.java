package io.bowstring.spark;

import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.connector.write.DataWriter;
import org.apache.spark.sql.connector.write.streaming.StreamingDataWriterFactory;

/** Makes a writer for each task attempt of a query in Real-time Mode, on the executors. */
record RealTimeWriterFactory(SinkPlan plan, String query) implements StreamingDataWriterFactory {
  private static final long serialVersionUID = 1L;

  @Override
  public DataWriter<InternalRow> createWriter(int partition, long taskId, long epoch) {
    NativeLibrary.check();
    return new RealTimeTaskWriter(plan, query, partition);
  }
}
