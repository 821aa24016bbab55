package io.bowstring.spark;

import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.unsafe.Platform;

/** A column of numbers, or of what Spark keeps as a number. */
final class FlatValues extends FlatColumn {
  /** How a value is kept. */
  enum Kind {
    BOOLEAN(0),
    BYTE(1),
    SHORT(2),
    INT(4),
    LONG(8),
    FLOAT(4),
    DOUBLE(8);

    /** Bytes; 0 for a bit. */
    final int width;

    Kind(int width) {
      this.width = width;
    }
  }

  private final Kind kind;
  private final int width;
  private long values;

  FlatValues(int ordinal, int room, Kind kind) {
    super(ordinal, room);
    this.kind = kind;
    width = kind.width;
    values = Platform.allocateMemory(bytesOf(room));
  }

  private long bytesOf(int rows) {
    return width == 0 ? bits(rows) : (long) width * rows;
  }

  @Override
  void writeNull(int at) {
    switch (width) {
      case 0 -> writeBit(at, false);
      case 1 -> Platform.putByte(null, values + at, (byte) 0);
      case 2 -> Platform.putShort(null, values + 2L * at, (short) 0);
      case 4 -> Platform.putInt(null, values + 4L * at, 0);
      default -> Platform.putLong(null, values + 8L * at, 0);
    }
  }

  @Override
  void writeValue(InternalRow row, int at) {
    switch (kind) {
      case BOOLEAN -> writeBit(at, row.getBoolean(ordinal));
      case BYTE -> Platform.putByte(null, values + at, row.getByte(ordinal));
      case SHORT -> Platform.putShort(null, values + 2L * at, row.getShort(ordinal));
      case INT -> Platform.putInt(null, values + 4L * at, row.getInt(ordinal));
      case LONG -> Platform.putLong(null, values + 8L * at, row.getLong(ordinal));
      case FLOAT -> Platform.putFloat(null, values + 4L * at, row.getFloat(ordinal));
      case DOUBLE -> Platform.putDouble(null, values + 8L * at, row.getDouble(ordinal));
    }
  }

  private void writeBit(int at, boolean bit) {
    long place = values + (at >> 3);
    int mask = 1 << (at & 7);
    // The first bit of a byte: what was there is of the batch before.
    int there = (at & 7) == 0 ? 0 : Platform.getByte(null, place);
    Platform.putByte(null, place, (byte) (bit ? there | mask : there & ~mask));
  }

  @Override
  long bytes(int rows) {
    return bits(rows) + bytesOf(rows);
  }

  @Override
  int buffers() {
    return 2;
  }

  @Override
  int places(int rows, long[] places, int at) {
    return place(values, bytesOf(rows), places, placeOfValidity(rows, places, at));
  }

  @Override
  void makeRoom(int rows, int room) {
    super.makeRoom(rows, room);
    values = Platform.reallocateMemory(values, bytesOf(rows), bytesOf(room));
  }

  @Override
  void close() {
    super.close();
    Platform.freeMemory(values);
    values = 0;
  }
}
