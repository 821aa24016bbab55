package io.bowstring.spark;

import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.types.StructType;

/** Rows as columns of Arrow. The columns' memory is used again for each batch. */
interface RowColumns extends AutoCloseable {
  /** Columns of a Spark schema in JSON; {@code name} is what Arrow's allocator calls them. */
  static RowColumns of(String schema, String name) {
    StructType type = (StructType) StructType.fromJson(schema);
    return FlatColumns.canHold(type) ? new FlatColumns(type) : new ArrowColumns(schema, name);
  }

  void write(InternalRow row);

  /** Bytes of so many rows, which is all that were written. */
  long bytes(int rows);

  /** Hands the rows to a writer of the library, which copies them, and begins anew. */
  void send(long to, int rows);

  @Override
  void close();
}
