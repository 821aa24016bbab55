package io.bowstring.spark;

import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.types.StructField;
import org.apache.spark.sql.types.StructType;

/**
 * Columns of numbers, times, text and bytes, written straight into memory as Arrow lays them out. Spark's own writer checks the bounds of each
 * value in each of its buffers: it takes about 55 ns of CPU for a row of five columns, where all of the sink takes 40 with these.
 */
final class FlatColumns implements RowColumns {
  /** Rows that there is room for at first. */
  private static final int FIRST_ROWS = 1024;

  private final FlatColumn[] columns;
  private int rows;
  private int room = FIRST_ROWS;

  FlatColumns(StructType schema) {
    StructField[] fields = schema.fields();
    columns = new FlatColumn[fields.length];
    try {
      for (int at = 0; at < fields.length; at++) {
        columns[at] = FlatColumn.of(fields[at].dataType(), at, room);
      }
    } catch (Throwable error) {
      close();
      throw error;
    }
  }

  /** Whether all columns are of types that this class knows. */
  static boolean canHold(StructType schema) {
    for (StructField field : schema.fields()) {
      if (!FlatColumn.isKnown(field.dataType())) {
        return false;
      }
    }
    return true;
  }

  @Override
  public void write(InternalRow row) {
    if (rows == room) {
      room = Math.multiplyExact(room, 2);
      for (FlatColumn column : columns) {
        column.makeRoom(rows, room);
      }
    }
    for (FlatColumn column : columns) {
      column.write(row, rows);
    }
    rows++;
  }

  @Override
  public long bytes(int count) {
    long bytes = 0;
    for (FlatColumn column : columns) {
      bytes += column.bytes(count);
    }
    return bytes;
  }

  @Override
  public void send(long to, int count) {
    long[] nodes = new long[2 * columns.length];
    int places = 0;
    for (FlatColumn column : columns) {
      places += column.buffers() * 2;
    }
    long[] buffers = new long[places];
    int at = 0;
    for (int index = 0; index < columns.length; index++) {
      nodes[2 * index] = count;
      nodes[2 * index + 1] = columns[index].nulls();
      at = columns[index].places(count, buffers, at);
    }
    Native.append(to, count, nodes, buffers);
    rows = 0;
    for (FlatColumn column : columns) {
      column.reset(room);
    }
  }

  @Override
  public void close() {
    for (FlatColumn column : columns) {
      if (column != null) {
        column.close();
      }
    }
  }
}
