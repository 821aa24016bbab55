package io.bowstring.spark;

import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.connector.read.InputPartition;
import org.apache.spark.sql.connector.read.PartitionReader;
import org.apache.spark.sql.connector.read.PartitionReaderFactory;
import org.apache.spark.sql.vectorized.ColumnarBatch;

/** Makes a reader for each range, on the executors. */
final class RangeReaderFactory implements PartitionReaderFactory {
  private static final long serialVersionUID = 1L;

  private final String schema;
  private final String[] options;

  RangeReaderFactory(String schema, String[] options) {
    this.schema = schema;
    this.options = options;
  }

  @Override
  public boolean supportColumnarReads(InputPartition range) {
    return true;
  }

  @Override
  public PartitionReader<InternalRow> createReader(InputPartition range) {
    throw new UnsupportedOperationException("batches are read as columns");
  }

  @Override
  public PartitionReader<ColumnarBatch> createColumnarReader(InputPartition range) {
    NativeLibrary.check();
    return new RangeReader((StreamRange) range, schema, options);
  }
}
