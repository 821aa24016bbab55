package io.bowstring.spark;

import org.apache.spark.sql.connector.read.PartitionReader;
import org.apache.spark.sql.vectorized.ColumnarBatch;

/** Reads a range, batch by batch, as columns that lie where the library has received them. */
final class RangeReader implements PartitionReader<ColumnarBatch> {
  private final ForeignColumns columns;
  private final long reader;
  private ColumnarBatch current;

  RangeReader(StreamRange range, String schema, String[] options) {
    reader = Native.openReader(options, range.numbers(), schema);
    try {
      columns = new ForeignColumns(schema, "bowstring-reader-" + range.partition());
    } catch (Throwable error) {
      Native.closeReader(reader);
      throw error;
    }
  }

  @Override
  public boolean next() {
    long[] found = Native.nextBatch(reader);
    if (found == null) {
      return false;
    }
    current = columns.load(found);
    return true;
  }

  @Override
  public ColumnarBatch get() {
    return current;
  }

  @Override
  public void close() {
    Native.closeReader(reader);
    columns.close();
  }
}
